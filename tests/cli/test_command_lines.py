"""What is wrong with a command line is told in a line or two, before anything trains; nothing is silent."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from command_lines import WOULD_TRAIN
from helpers import ROOT, environment

HERE = ROOT / "tests"
SLOWEST = 20.0  # seconds, of a line that is refused or planned, on a busy machine

# a line, and a part of what is told
REFUSED = {
    "kdsweep =4": "=4: has no key before the =; give KEY=VALUE",
    "kdsweep foo": "foo: must be KEY=VALUE",
    "kdsweep 'temperature = 4'": "must have no blanks around the =; give temperature=4",
    "kdsweep temperature=glob(": "is quoted twice",
    "kdsweep --multirun --run": "Only one of --run, --multirun",
    "kdsweep --shell-completion query=fish": "COMP_LINE",
    "kdsweep hydra.run.dir=FILE": "hydra.run.dir=FILE: cannot be written (FILE: File exists)",
    "kdsweep hydra.run.dir=/proc/x": "hydra.run.dir=/proc/x: cannot be written",
    "kdsweep hydra.run.dir=": "hydra.run.dir=: must name a folder",
    "kdsweep 'temperature=${temperature}'": "temperature: the config does not resolve: Recursive",
    "kdsweep 'seed=${nosuch}'": "seed: the config does not resolve: Interpolation key 'nosuch' not found",
    "kdsweep hydra.job_logging.handlers.console.class=nosuch": "Logging target 'nosuch'",
    "kdsweep debug=maybe": "kdsweep: debug=maybe: must be true or false",
    "kdsweep training=null": "training=null: must be one of its files; allowed: cifar100, ",
    "kdsweep search=null": "search=null: must be one of its files; allowed: chain, grid, optuna",
    "kdsweep training.epochs=99999999999999999999": "must be less than or equal to 1000000",
    "kdsweep tracking=5": "tracking=5: must be a section of keys",
    "kdsweep tracking.uri=": "tracking.uri=: must not be empty",
    "kdsweep tracking.uri=sqlite:///:memory:": "memory keeps no run; name a file",
    "kdsweep tracking.uri=sqlite:////tmp": "tracking.uri=sqlite:////tmp: /tmp: Is a directory",
    "kdsweep tracking.uri=sqlite:///FILE": "FILE: is no database",
    "kdsweep student.model.hidden=[8,0]": "hidden2.weight has no weights, since its layer has no width",
    "kdsweep method=ban chain_length=100000 plan=true": "chain_length=100000: must be less than",
    "kdsweep -m seed=range(1000000000) plan=true": "1,000,000,000 jobs",
    "kdsweep -m seed=range(1000000) plan=true": "1,000,000 jobs",
    "kdsweep -m temperature=range(0)": "temperature=range(0): gives no value",
    "kdsweep -m 'student=glob(zzz*)'": "student=glob(zzz*): gives no value",
    "kdsweep -m 'temperature=interval(1,2)'": "an interval is for a search",
    "kdsweep -m tracking.uri=a,b": "cannot be swept",
    "kdsweep -m student=mlp,null": "student=null: must be one of its files",
    "kdsweep -m hydra.sweep.dir=FILE temperature=1,2": "hydra.sweep.dir=FILE: cannot be written",
    "kdsweep -m hydra.sweep.subdir=same temperature=1,2": "several jobs have the folder same",
    "kdsweep -m hydra.sweep.subdir=same temperature=1 confirm=2": "several jobs have the folder same",
    "kdsweep -m hydra.sweep.subdir=../x temperature=1": "is outside of the sweep's folder",
    "kdsweep -m search=optuna hydra.sweep.subdir=x temperature=1,2": "several jobs have the folder x",
    "kdsweep -m hydra.sweeper._target_=os.system": "hydra.sweeper._target_=os.system: is no sweeper",
    "kdsweep -m hydra.sweeper.max_batch_size=0 temperature=1,2": "max_batch_size=0: must be 1 or more",
    "kdsweep -m ~hydra.callbacks.sweep temperature=1,2": "hydra.callbacks.sweep: must stay as it is",
    "kdsweep -m search=optuna search.storage=sqlite:///FILE temperature=1,2": "file is not a database",
    "kdsweep -m search=optuna search.storage=sqlite:////proc/x temperature=1,2": "cannot be opened",
    "kdsweep-report ''": "must not be empty",
    "kdsweep-report nosuch --out=": "--out=: must not be empty",
    "kdsweep-report nosuch --tracking-uri sqlite:////tmp": "/tmp is not a file",
    "kdsweep-export '' --to onnx --out x": "must not be empty",
    "kdsweep-predict '' x": "must not be empty",
    "kdsweep-store list --results nosuch": "--results nosuch: no such folder",
    "kdsweep-store list --store ''": "must not be empty",
}
LONG_NAME = f"kdsweep dataset=image_folder dataset.root={'x' * 5000}"
REFUSED[LONG_NAME] = "File name too long"

# as they come to people, right or wrong: none may end badly
TRIED = """
kdsweep hydra/job_logging=disabled
kdsweep hydra.job_logging.handlers.file.filename=/proc/x/y
kdsweep hydra.output_subdir=/proc/x
kdsweep 'hydra.job.name="a/b"'
kdsweep hydra.verbose=[1]
kdsweep hydra.mode=FOO
kdsweep hydra.run=null
kdsweep hydra.searchpath=3
kdsweep -m hydra.callbacks=null temperature=1,2
kdsweep -m hydra.launcher._target_=os.system temperature=1,2
kdsweep --experimental-rerun nosuch
kdsweep --resolve
kdsweep --config-dir FILE
kdsweep --config-name nosuch
kdsweep --cfg nosuch
kdsweep ''
kdsweep ' '
kdsweep temperature
kdsweep temperature==4
kdsweep temperature=1,2
kdsweep temperature=[1,2]
kdsweep temperature={a:1}
kdsweep temperature=nan
kdsweep temperature=1e999
kdsweep temperature=٤
kdsweep +temperature=4
kdsweep ++temprature=4
kdsweep ~temperature
kdsweep ~nosuch
kdsweep ~training
kdsweep ~training.epochs
kdsweep ~student ~teacher
kdsweep ~hydra
kdsweep 'temperature=${oc.env:NOSUCH}'
kdsweep 'temperature=${alpha'
kdsweep 'training=${teacher.training}'
kdsweep 'student=${teacher}'
kdsweep 'temperature=${kdsweep.cli.help:groups}'
kdsweep 'student.name=${hydra.job.num}'
kdsweep 'debug=${nosuch}'
kdsweep 'plan=${nosuch}'
kdsweep 'confirm=${nosuch}'
kdsweep tracking.uri=databricks
kdsweep tracking.uri=mlruns
kdsweep 'tracking.uri="http://[bad"'
kdsweep store=FILE
kdsweep store=/
kdsweep store=
kdsweep store_budget=0
kdsweep dataset=image_folder dataset.root=/proc/1
kdsweep dataset=image_folder dataset.image_size=1000000000
kdsweep dataset=image_csv dataset.root=. dataset.csv=FILE dataset.images=.
kdsweep dataset.augment=null
kdsweep dataset.augment.zoom=[1]
kdsweep dataset.augment.crop_padding=999999999
kdsweep dataset.train_limit=1
kdsweep ~dataset.source
kdsweep training.optimizer={a:1}
kdsweep training.optimizer=null
kdsweep training.schedule=[1]
kdsweep training/optimizer=sgd training.optimizer.momentum=-1
kdsweep training.schedule._target_=torch.nn.Linear
kdsweep training.fine_tuning=null
kdsweep training.fine_tuning.epochs=99999999999999999999999
kdsweep hardware.threads=99999999999999999999999
kdsweep hardware.device=mps
kdsweep seed=-1
kdsweep objective={a:1}
kdsweep 'objective=[[val/accuracy]]'
kdsweep student=../teacher/mnist_cnn
kdsweep student=/etc/passwd
kdsweep student=5
kdsweep student@foo=mlp
kdsweep +student@foo=mlp
kdsweep +foo/bar=baz
kdsweep student.model.hidden=5
kdsweep student.model.hidden=[99999999999]
kdsweep student.model=null
kdsweep student.model._target_=os.system
kdsweep student.model._target_=sys.exit
kdsweep +student.model._partial_=true
kdsweep +student.model._args_=[1]
kdsweep student.weights=FILE
kdsweep student.weights=stage:
kdsweep student.weights=runs:/
kdsweep 'student.assistants=[5]'
kdsweep 'student.assistants=[{name:a}]' method=takd chain_length=2
kdsweep student=timm student.model.architecture=nosuch
kdsweep experiment=[mnist_kd]
kdsweep chain.ensemble=zz
kdsweep -m confirm=99999999999999 temperature=1,2
kdsweep -m confirm=3,4 temperature=1,2
kdsweep -m 'temperature=range(1,2,0)'
kdsweep -m 'temperature=range(1e300)'
kdsweep -m 'temperature=range(0,1,1e-9)'
kdsweep -m 'temperature=choice()'
kdsweep -m 'temperature=nosuch(1)'
kdsweep -m 'temperature=1,${nosuch}'
kdsweep -m 'temperature=1,[2,3]'
kdsweep -m '~temperature=1,2'
kdsweep -m 'hydra.sweep.subdir=${nosuch}' temperature=1,2
kdsweep -m 'hydra.sweep.subdir=${hydra.job.override_dirname}' temperature=1,1
kdsweep -m search=optuna,pareto
kdsweep -m search=optuna
kdsweep -m search=optuna 'temperature=interval(2,1)'
kdsweep -m search=optuna search.storage=x temperature=1,2
kdsweep -m search=optuna search.storage=redis://x temperature=1,2
kdsweep -m search=optuna hydra.sweeper.sampler._target_=os.system temperature=1,2
kdsweep -m search=optuna hydra.sweeper.direction=up temperature=1,2
kdsweep -m hardware=cpu_parallel hardware.jobs=99999999999999999999 temperature=1,2
kdsweep -m hardware=slurm temperature=1,2
kdsweep-report nosuch --tracking-uri x
kdsweep-report nosuch --tracking-uri sqlite:///FILE
kdsweep-report 99999999999999999999999999 --tracking-uri sqlite:///FILE
kdsweep-report .
kdsweep-report FILE
kdsweep-export nosuch --to nosuch --out x
kdsweep-export nosuch --to onnx --out x --job 1e3
kdsweep-predict nosuch x
kdsweep-predict . x
kdsweep-predict FILE x --top ²
kdsweep-store
kdsweep-store list --store FILE
kdsweep-store list --store /
kdsweep-store show ''
kdsweep-store remove --unfinished nan
kdsweep-store remove --unfinished 1e400
""".strip().splitlines()


def run(lines: list[str], folder: Path) -> dict[str, dict]:
    """What came of each line; all of them in forks of one process."""
    done = subprocess.run(
        [sys.executable, str(HERE / "command_lines.py"), str(folder)],
        env=environment(OMP_NUM_THREADS="1"),
        input=json.dumps([shlex.split(line) for line in lines]),
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(zip(lines, json.loads(done.stdout), strict=True))


def ends_badly(told: dict) -> bool:
    """A traceback, an error nobody expected, or none at all."""
    shown = told["out"] + told["err"]
    silent = told["status"] != 0 and not told["err"].strip()
    return "Traceback" in shown or "(unexpected" in shown or silent or told["status"] not in (0, 1)


def test_what_is_wrong_is_told_and_nothing_trains(tmp_path):
    told = run(list(REFUSED), tmp_path)
    differ = {line: each["err"] for line, each in told.items() if REFUSED[line] not in each["err"]}
    assert not differ
    for line, each in told.items():
        assert not ends_badly(each), (line, each)
        assert each["status"] == 1 and WOULD_TRAIN not in each["err"], line
        assert len(each["err"].splitlines()) <= 4, (line, each["err"])
        assert each["seconds"] < SLOWEST, line
    assert not list(tmp_path.glob("*/here/mlflow.db")), "no run was begun"


@pytest.mark.slow
def test_no_line_of_many_ends_badly(tmp_path):
    for line, told in run(TRIED, tmp_path).items():
        assert not ends_badly(told), (line, told)
