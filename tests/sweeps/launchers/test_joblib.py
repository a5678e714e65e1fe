"""Jobs side by side on cores: whose process dies, who is interrupted, and what that does to the others."""

import json
import os
import re
import signal
import time

import pytest
from dying import NETWORK, results
from helpers import LONG, TINY, Command, left_of, runs, start

from kdsweep.config import cores

PARALLEL = ("-m", "hardware=cpu_parallel", "hardware.jobs=2")


@pytest.mark.parametrize("parallel", [("-m",), pytest.param(PARALLEL, marks=pytest.mark.long)])
def test_jobs_that_fail_leave_the_others(kdsweep: Command, network, parallel):
    (network / "do-9").write_text("raise")
    (network / "do-10").write_text("give nan")
    done = kdsweep(*parallel, "student.model.width=9,10,8", *NETWORK, status=1)
    assert "job 0 (student.model.width=9) failed: ValueError: of the network's own" in done.stderr
    assert "job 1 (student.model.width=10) failed: student: the loss is no longer finite" in done.stderr
    assert [bool(result["error"]) for result in results(network)] == [True, True, False]
    assert sorted(run.info.status for run in runs(network)) == ["FAILED", "FAILED", "FAILED", "FINISHED"]


@pytest.mark.long
def test_memory_that_is_not_enough_is_told(kdsweep: Command, network):
    for width, does in ((9, "fill the memory"), (10, "fill a GPU"), (11, "raise MemoryError")):
        (network / f"do-{width}").write_text(does)
    told = kdsweep("-m", "student.model.width=9,10,11", *NETWORK, status=1).stderr
    of_each = ["tried to allocate 1152921504606846976 bytes", "tried to allocate 2.50 GiB", "MemoryError"]
    for job, why in enumerate(of_each):
        line = f"job {job} (student.model.width={job + 9}) failed: out of memory ({why}): try a smaller "
        assert f"{line}training.batch_size, or fewer jobs at a time" in told
    assert "unexpected" not in told


@pytest.mark.long
def test_a_process_that_dies_takes_no_other_job_with_it(kdsweep: Command, network):
    (network / "do-9").write_text("die after 10")
    (network / "do-10").write_text("die once")
    sweep = (*PARALLEL, "student.model.width=8,9,10", *NETWORK)
    done = kdsweep(*sweep, "hydra.sweep.dir=multirun/first/sweep", status=1)
    # joblib does not wait long for a signal's number
    deaths = re.findall(r"a job's process died( by .*)?; unfinished jobs run again", done.stderr)
    assert len(deaths) in (1, 2), done.stderr
    assert re.search(r"^\[2/3\] student.model.width=9  failed", done.stdout, re.M)
    assert (
        "job 1 (student.model.width=9) failed: a job's process died by SIGKILL(-9), even alone" in done.stderr
    )
    assert "Traceback" not in done.stderr
    well, failed, again = results(network)
    assert [result["error"] for result in (well, again)] == [None, None]
    assert "died" in failed["error"]
    assert len(list(network.glob("kdsweep-store/unfinished/*/checkpoint.safetensors"))) == 1
    parent, *children = runs(network)
    assert parent.info.status == "FAILED"
    assert [child.info.status for child in children].count("FINISHED") == 2
    assert {child.info.status for child in children} == {"FINISHED", "KILLED"}

    (network / "do-9").unlink()
    done = kdsweep(*sweep)
    lines = sorted(line for line in done.stdout.splitlines() if line.startswith("["))
    assert [line.endswith("reused") for line in lines] == [True, False, True]


@pytest.mark.long
@pytest.mark.parametrize(
    ("seconds", "sign", "group"),
    [(0, signal.SIGTERM, True), (2, signal.SIGINT, True), (4, signal.SIGINT, False)],
)
def test_a_sweep_whose_workers_only_begin_is_interrupted(tmp_path, seconds, sign, group):
    process = start(tmp_path, *PARALLEL, "seed=range(4)", *LONG)
    said = iter(process.stdout.readline, "")
    assert any("4 jobs over seed" in line for line in said)
    time.sleep(seconds)
    begin = time.monotonic()
    os.killpg(process.pid, sign) if group else process.send_signal(sign)
    errors = process.communicate(timeout=60)[1]
    assert time.monotonic() - begin < 15
    assert process.returncode == 2, errors
    assert "Traceback" not in errors
    assert {run.info.status for run in runs(tmp_path)} == {"KILLED"}
    assert not left_of(process)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["hardware=slurm", "hardware.minutes=2"], "hardware.minutes=2: must be greater than or equal to 3"),
        (["hardware=slurm", "hardware.gpus_per_job=0.5"], "hardware.gpus_per_job=0.5: must be 0 or 1 with"),
        (
            ["hardware=slurm", "hardware.memory_gb=0"],
            "hardware.memory_gb=0: must be greater than or equal to",
        ),
        (["hardware=slurm", "hardware.jobs=-1"], "hardware.jobs=-1: must be 1 or more with hardware=slurm"),
        (["hardware.minutes=60"], "hardware.minutes: no such key"),
        (["hardware=cpu_parallel", "hardware.partition=gpu"], "hardware.partition: no such key"),
    ],
)
def test_mistakes_about_hardware_are_told(kdsweep: Command, tmp_path, arguments, told):
    (tmp_path / "sbatch").touch(mode=0o755)  # so that Slurm seems to be here
    done = kdsweep("-m", *arguments, PATH=f"{tmp_path}:{os.environ['PATH']}", status=1)
    assert told in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("hardware", ["slurm", "gpus", "ray"])
def test_a_job_alone_is_not_launched(kdsweep: Command, tmp_path, hardware):
    for plan in ("plan=false", "plan=true"):
        told = kdsweep(f"hardware={hardware}", "method=scratch", plan, *TINY, status=1).stderr
        assert told.startswith(f"kdsweep: hardware={hardware}: needs -m, as in kdsweep -m hardware=")
    assert not (tmp_path / "mlflow.db").exists() and not list(tmp_path.glob("kdsweep-store/*/stage.json"))


@pytest.mark.long
def test_a_job_alone_has_every_core(kdsweep: Command, tmp_path):
    alone = ("hardware=cpu_parallel", "method=scratch", *TINY)
    kdsweep(*alone)
    (record,) = tmp_path.glob("kdsweep-store/*/stage.json")
    assert json.loads(record.read_text())["made_by"]["threads"] == cores()
    assert "another number of CPU threads" not in kdsweep(*alone, "seed=1", "plan=true").stdout


def test_hardware_slurm_says_what_it_lacks(kdsweep: Command, tmp_path):
    sweep = ("-m", "hardware=slurm", "temperature=1,4")
    told = kdsweep(*sweep, PATH="/nowhere", status=1).stderr
    assert told.startswith("kdsweep: hardware=slurm: no sbatch here")
    hidden = tmp_path / "hydra_plugins" / "hydra_submitit_launcher"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").touch()
    told = kdsweep(*sweep, PYTHONPATH=str(tmp_path), status=1).stderr
    assert told.splitlines()[-1] == "kdsweep: hardware=slurm needs submitit: pip install 'kdsweep[slurm]'"
    assert "'slurm'" not in told  # warnings are about the hidden plugin's own entry points alone
    assert not (tmp_path / "mlflow.db").exists()


MISSING = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if "hydra_submitit_launcher" in name:
            raise ImportError(name)

sys.modules["ray"] = None
sys.meta_path.insert(0, Missing())
"""


@pytest.mark.long
def test_workers_are_silent_where_other_launchers_are_not_installed(kdsweep: Command, tmp_path):
    """As in a plain install: Hydra finds the plugins of kdsweep anew in every worker, stand-ins too."""
    (tmp_path / "missing").mkdir()
    (tmp_path / "missing" / "sitecustomize.py").write_text(MISSING)
    done = kdsweep(*PARALLEL, "temperature=1,4", *TINY, PYTHONPATH=str(tmp_path / "missing"))
    assert "is already registered" not in done.stderr, done.stderr
    refused = kdsweep("-m", "hardware=ray", *TINY, PYTHONPATH=str(tmp_path / "missing"), status=1)
    assert "pip install" in refused.stderr and "Traceback" not in refused.stderr
