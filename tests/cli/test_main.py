"""The command as it is installed: help, one job, sweeps, searches, mistakes."""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import CONF, TINY, Command, artifacts, client, composed, runs, sweep_folder
from omegaconf import OmegaConf


@pytest.mark.parametrize("overrides", [[], ["experiment=mhist_transfer", "hardware=slurm", "search=optuna"]])
def test_help_explains_every_group_and_every_key(kdsweep: Command, overrides):
    shown = kdsweep("--help", *overrides, COLUMNS="80").stdout
    assert max(map(len, shown.splitlines())) <= 80
    words = " ".join(shown.split())
    for group in CONF.iterdir():
        if group.is_dir() and group.name != "__pycache__":
            assert re.search(rf" {group.name}=\w+ [^=]+ \({', '.join(options(group))}\)", words), group
    keys = dict(leaves(OmegaConf.to_container(composed(*overrides))))
    recipe = [key for key, value in keys.items() if value == "same"]
    assert recipe and "${" not in shown
    explained = dict(re.findall(r"^  ([\w.]+)=\S+(?:\n {9,}| +)(\S.*)", shown, re.M))
    of_components = {key for key in keys if re.search(r"\.(model|optimizer|schedule|terms)\.", key)}
    assert keys.keys() - explained.keys() <= {*recipe, *of_components}
    assert not set(recipe) & explained.keys()
    assert all(f"  {key}=" in shown for key in of_components)
    for group in ("training/optimizer", "training/schedule", "teacher/training"):
        assert f"  {group}=" in shown
    assert explained["alpha"].startswith("weight of the labels' cross-entropy")


def test_help_is_of_what_is_chosen_and_quick(kdsweep: Command):
    shown = kdsweep(
        "--help", "dataset=mnist", "student=wrn", "teacher.training.epochs=9", "temperature=7"
    ).stdout
    assert "  temperature=7 " in shown and "  student.model.depth=28\n" in shown
    assert re.findall(r"teacher\.training\.\S+", shown) == ["teacher.training.*", "teacher.training.epochs=9"]
    assert "  kdsweep -m temperature=" in shown
    assert 'eval "$(kdsweep --shell-completion install=bash)"' in shown


def options(group: Path) -> list[str]:
    return sorted(file.stem for file in group.glob("*.yaml"))


def leaves(values: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job"], ["--shell-completion", "query=bash"]])
def test_answers_import_nothing_heavy(kdsweep: Command, arguments):
    shown = kdsweep(*arguments, PYTHONPROFILEIMPORTTIME="1", COMP_LINE="kdsweep ", COMP_POINT="8").stderr
    imported = {
        line.rpartition("|")[2].strip() for line in shown.splitlines() if line.startswith("import time")
    }
    assert "kdsweep.cli.main" in imported
    assert not imported & {
        "torch",
        "torchvision",
        "mlflow",
        "sklearn",
        "matplotlib",
        "torchmetrics",
        "pandas",
        "ray",
        "submitit",
    }


def test_shell_completion_completes_groups_and_keys(kdsweep: Command):
    def complete(line: str) -> list[str]:
        return kdsweep(
            "--shell-completion", "query=bash", COMP_LINE=line, COMP_POINT=str(len(line))
        ).stdout.split()

    methods = sorted(file.stem for file in (CONF / "method").glob("*.yaml"))
    assert complete("kdsweep method=") == [f"method={name}" for name in methods]
    assert "temperature=" in complete("kdsweep temp")


def test_one_job(kdsweep: Command, tmp_path):
    shown = kdsweep(*TINY).stdout
    for role in ("teacher", "scratch", "student"):
        assert re.search(rf"{role} +trained +val [\d.]+%", shown)
    assert "parameters" in shown
    (run,) = runs(tmp_path)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"temperature": "4.0", "alpha": "0.5", "chain_length": "1", "seed": "0"}
    tags = {
        "role": "job",
        "dataset": "digits",
        "teacher": "mnist_cnn",
        "student": "small_mlp",
        "method": "kd",
    }
    assert {name: run.data.tags[f"kdsweep.{name}"] for name in tags} == tags
    (used,) = run.inputs.dataset_inputs
    assert (used.dataset.name, json.loads(used.dataset.profile)["test"]) == ("digits", 100)
    metrics = run.data.metrics
    for name in (
        "val/accuracy", "best/val/accuracy", "train/loss", "teacher/val/accuracy", "scratch/train/loss",
        *(f"{role}test/{figure}" for role in ("", "teacher/", "scratch/")
          for figure in ("accuracy", "macro_f1", "roc_auc", "cross_entropy", "calibration_error")),
        "test/agreement", "scratch/test/agreement", "teacher/cost/flops",
        *(f"cost/{figure}" for figure in ("parameters", "flops", "bytes")),
    ):  # fmt: skip
        assert name in metrics, name
    (told,) = tmp_path.glob("outputs/*/*/sweep.json")
    measured = set(json.loads(told.read_text())["latency"]["ms"].values())
    shown = {metrics.get(name) for name in ("cost/latency_ms", "teacher/cost/latency_ms")}
    assert shown == (measured or {None}), "what the machine was quiet enough to measure"
    history = client(tmp_path).get_metric_history(run.info.run_id, "val/accuracy")
    assert [point.step for point in history] == [1, 2]
    assert artifacts(tmp_path, run) == {
        "weights.safetensors", "confusion.png", "curves.png", "config.yaml", "result.json", "sweep.json",
        "teacher", "scratch",
    }  # fmt: skip


def test_a_sweep_and_the_same_again(kdsweep: Command, tmp_path):
    sweep = ("-m", "temperature=1,4", "alpha=0.1,0.5", "seed=range(2)", *TINY)
    first = kdsweep(*sweep).stdout
    assert "8 jobs over temperature, alpha, seed: small_mlp taught by mnist_cnn, digits" in first
    assert re.search(r"\[1/8\] T=1 α=0.1 seed=0 .* trained in .*, after teacher and baseline", first)
    assert len(re.findall(r"^\[\d/8\]", first, re.M)) == 8
    folder = sweep_folder(tmp_path)

    with (folder / "sweep.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 8
    table = (folder / "sweep.txt").read_text().splitlines()
    shown = [float(line.split()[4]) for line in table[1:9]]
    assert (
        shown
        == sorted(shown, reverse=True)
        == sorted((round(100 * float(r["val_accuracy"]), 2) for r in rows), reverse=True)
    )
    assert (folder / "sweep.png").read_bytes().startswith(b"\x89PNG")

    parent, *children = runs(tmp_path)
    assert {child.data.tags["mlflow.parentRunId"] for child in children} == {parent.info.run_id}
    assert len(children) == 8
    assert {run.info.status for run in (parent, *children)} == {"FINISHED"}
    assert artifacts(tmp_path, parent) == {
        "sweep.json", "sweep.txt", "sweep.csv", "sweep.png", "f1.png", "roc_auc.png", "curves.png",
        "report.html", "note.png",
    }  # fmt: skip
    by_values = {
        (c.data.params["temperature"], c.data.params["alpha"], c.data.params["seed"]): c for c in children
    }
    assert len(by_values) == 8
    measured = json.loads((folder / "sweep.json").read_text())["latency"]["ms"].values()
    assert {child.data.metrics.get("cost/latency_ms") for child in children} <= (set(measured) or {None})
    for row in rows:
        metrics = by_values[f"{row['temperature']}.0", row["alpha"], row["seed"]].data.metrics
        assert float(row["val_accuracy"]) == metrics["best/val/accuracy"]
        assert float(row["test_accuracy"]) == metrics["test/accuracy"]
        assert float(row["teacher_accuracy"]) == metrics["teacher/test/accuracy"]

    # two teachers, two baselines, eight students: nothing was trained twice
    stages = sorted(tmp_path.glob("kdsweep-store/*/stage.json"))
    assert len(stages) == 12
    again = kdsweep(*sweep).stdout
    assert again.count("reused") >= 16 and "trained" not in again
    assert sorted(tmp_path.glob("kdsweep-store/*/stage.json")) == stages
    assert len(runs(tmp_path)) == 18


@pytest.mark.long
def test_parallel_jobs_train_a_shared_stage_once(kdsweep: Command, tmp_path):
    kdsweep("-m", "hardware=cpu_parallel", "hardware.jobs=2", "temperature=1,4", *TINY)
    assert len(list(tmp_path.glob("kdsweep-store/*/stage.json"))) == 4
    parent, *children = runs(tmp_path)
    assert [child.info.status for child in children] == ["FINISHED"] * 2
    reused = sorted(metrics for metrics in (child.data.tags["kdsweep.reused"] for child in children))
    assert reused == ["false", "false"]
    assert parent.info.status == "FINISHED"


@pytest.mark.long
def test_without_baseline_and_alone(kdsweep: Command, tmp_path):
    shown = kdsweep("baseline=false", *TINY).stdout
    assert "scratch" not in shown
    shown = kdsweep("method=scratch", *TINY).stdout
    assert "teacher" not in shown
    alone = runs(tmp_path, "tags.`kdsweep.method` = 'scratch'")[0]
    assert "temperature" not in alone.data.params


@pytest.mark.long
def test_the_scratch_baseline_is_the_scratch_method(kdsweep: Command, tmp_path):
    kdsweep(*TINY)
    assert re.search(r"student +reused", kdsweep("method=scratch", *TINY).stdout)


@pytest.mark.long
def test_a_network_of_ones_own(kdsweep: Command, tmp_path):
    (tmp_path / "my_net.py").write_text(
        "from torch import nn\n\n"
        "def linear(num_classes, in_channels, image_size, bias):\n"
        "    pixels = in_channels * image_size[0] * image_size[1]\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, num_classes, bias=bias))\n"
    )
    student = tmp_path / "my_conf" / "student"
    student.mkdir(parents=True)
    (student / "mine.yaml").write_text("name: mine\nmodel:\n  _target_: my_net.linear\n  bias: false\n")
    # what remains of TINY is for the networks that kdsweep brings
    tiny = [each for each in TINY if not each.startswith("student")]
    shown = kdsweep("--config-dir", "my_conf", "student=mine", *tiny).stdout
    assert re.search(r"student +640 ", shown), "64 × 10 weights"
    (tmp_path / "my_net.py").write_text(
        (tmp_path / "my_net.py").read_text().replace("bias=bias", "bias=True")
    )
    shown = kdsweep("--config-dir", "my_conf", "student=mine", *tiny).stdout
    assert re.search(r"student +trained", shown), "an edited network is another one"
    assert re.search(r"student +650 ", shown)


@pytest.mark.long
def test_optuna_gets_the_objective(kdsweep: Command, tmp_path):
    shown = kdsweep(
        "-m", "hydra/sweeper=optuna", "hydra.sweeper.direction=maximize", "hydra.sweeper.n_trials=3",
        "hydra.sweeper.sampler.seed=0", "temperature=tag(log,interval(1,64))", *TINY,
    ).stdout  # fmt: skip
    best = float(re.search(r"Best value: ([\d.]+)", shown)[1])
    children = [run for run in runs(tmp_path) if "mlflow.parentRunId" in run.data.tags]
    assert len(children) == 3
    assert best == max(run.data.metrics["best/val/accuracy"] for run in children)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["temprature=4"], "kdsweep: temprature: no such key; did you mean temperature?"),
        (["student=nope"], "kdsweep: student/nope: no such option; allowed: cats_dogs_cnn, "),
        (["temperature=-1"], "kdsweep: temperature=-1: must be greater than 0"),
        (["hardware=gpu", "hardware.device=cuda:99"], "kdsweep: hardware.device=cuda:99: "),
        (
            ["+student.model.width=3"],
            "kdsweep: student.model._target_=kdsweep.networks.zoo.mlp.MLP: TypeError: ",
        ),
        (["store=mlflow.db/x"], "kdsweep: store=mlflow.db/x: the folder cannot be made: "),
        (
            ["tracking.uri=http://127.0.0.1:1"],
            "kdsweep: tracking.uri=http://127.0.0.1:1: MLflow does not answer: ",
        ),
        (["tracking.uri=nonsense://x"], "kdsweep: tracking.uri=nonsense://x: MLflow does not answer: "),
        (["hydra.job.chdir=true"], "kdsweep: hydra.job.chdir=true: must be false"),
        (["hardware.jobs=2"], "kdsweep: hardware.jobs: no such key"),
        (["--config-dir", "nowhere"], "kdsweep: Additional config directory "),
    ],
)
def test_a_mistake_is_told_in_a_line_or_two(kdsweep: Command, tmp_path, arguments, told):
    (tmp_path / "mlflow.db").write_bytes(b"") if "store=mlflow.db/x" in arguments else None
    done = kdsweep(*arguments, status=1)
    lines = done.stderr.strip().splitlines()
    assert lines[0].startswith(told)
    assert len(lines) <= 2
    assert "Traceback" not in done.stdout + done.stderr


def test_an_unknown_flag_is_a_mistake_not_an_interruption(kdsweep: Command):
    assert "--multirn" in kdsweep("--multirn", "temperature=1,2", status=1).stderr


@pytest.mark.parametrize("way", [{"arguments": ["debug=true"]}, {"HYDRA_FULL_ERROR": "1"}])
def test_the_traceback_comes_back_on_demand(kdsweep: Command, way):
    arguments = way.pop("arguments", [])
    assert "Traceback" in kdsweep("temperature=-1", *arguments, status=1, **way).stderr


def test_a_sweep_with_a_mistake_starts_nothing(kdsweep: Command, tmp_path):
    told = kdsweep("-m", "temperature=1,-2", "alpha=0.5,3", *TINY, status=1).stderr
    assert told.splitlines() == [
        "kdsweep: nothing was started",
        "alpha=3: must be less than or equal to 1",
        "temperature=-2: must be greater than 0",
    ]
    assert not (tmp_path / "mlflow.db").exists()
    assert not list(tmp_path.glob("kdsweep-store/*/stage.json"))


def test_the_ends_of_a_searched_interval_are_checked(kdsweep: Command):
    told = kdsweep("-m", "hydra/sweeper=optuna", "alpha=interval(0,2)", *TINY, status=1).stderr
    assert "alpha=2.0: must be less than or equal to 1" in told


def test_a_failing_job_leaves_the_others(kdsweep: Command, tmp_path):
    done = kdsweep(
        "-m",
        "training.learning_rate=1e30,0.001",
        "baseline=false",
        "teacher.training.learning_rate=0.001",
        *TINY,
        status=1,
    )
    assert re.search(r"\[1/2\] training.learning_rate=1e\+30  failed", done.stdout)
    assert re.search(r"\[2/2\] training.learning_rate=0.001  val", done.stdout)
    assert "job 0 (training.learning_rate=1e+30) failed: student: the loss is no longer finite" in done.stderr
    assert "Traceback" not in done.stderr
    parent, *children = runs(tmp_path)
    assert [run.info.status for run in (parent, *children)] == ["FAILED", "FAILED", "FINISHED"]
    assert "the loss is no longer finite" in children[0].data.tags["kdsweep.error"]


@pytest.mark.long
def test_debug_shows_where_a_job_of_a_sweep_failed(kdsweep: Command):
    done = kdsweep("-m", "training.learning_rate=1e30", "method=scratch", "debug=true", *TINY, status=1)
    assert "TrainingError: student: the loss is no longer finite" in done.stderr
    assert "Traceback" in done.stderr


@pytest.mark.long
def test_a_sweep_folder_used_again_forgets_its_first_sweep(kdsweep: Command, tmp_path):
    kdsweep("-m", "hydra.sweep.dir=out", "seed=1,2,4", "method=scratch", *TINY)
    kdsweep("-m", "hydra.sweep.dir=out", "training.batch_size=32,64", "method=scratch", *TINY)
    with (tmp_path / "out" / "sweep.csv").open() as stream:
        assert sorted(row["training.batch_size"] for row in csv.DictReader(stream)) == ["32", "64"]
    shown = kdsweep("-m", "hydra.sweep.dir=.", "method=scratch", *TINY, status=1).stderr
    assert "of another sweep or job; give a new folder" in shown
    assert len(list(tmp_path.glob("out/*/result.json"))) == 2


@pytest.mark.long
def test_a_damaged_stage_is_trained_again_with_a_warning(kdsweep: Command, tmp_path):
    kdsweep("method=scratch", *TINY)
    (weights,) = tmp_path.glob("kdsweep-store/*/weights.safetensors")
    right = weights.read_bytes()
    weights.write_bytes(right[:-1] + bytes([right[-1] ^ 1]))
    done = kdsweep("method=scratch", *TINY)
    assert "is damaged (checksum of weights.safetensors)" in done.stderr
    assert re.search(r"student +trained", done.stdout)
    assert weights.read_bytes() == right
