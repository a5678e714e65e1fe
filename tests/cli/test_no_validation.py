"""dataset.val_fraction=0 through the commands: every image trains, nothing is chosen, and it is said."""

import json
import re
import signal
import subprocess
from pathlib import Path

import pytest
from helpers import COMMAND, LONG, TINY, Command, artifacts, environment, runs, start, stop_in_training
from safetensors.torch import load_file

from kdsweep.results.result import JobResult

NONE = "dataset.val_fraction=0"
WHY = f"by validation, and {NONE} holds back no image for that; "
SWEEP = ("-m", NONE, "method=scratch,kd", "seed=range(2)", "hydra.sweep.dir=sweep", *TINY)


def also(folder: Path, tool: str, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Another command of kdsweep's in the same folder."""
    done = subprocess.run(
        [f"{COMMAND}-{tool}", *arguments], cwd=folder, env=environment(), capture_output=True, text=True
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


def words(page: str) -> str:
    """The text of a page of HTML."""
    text = re.sub(r"<script.*?</script>|<style.*?</style>|<[^>]+>", " ", page, flags=re.S)
    return " ".join(text.replace("\u00a0", " ").split())


@pytest.mark.long
def test_a_sweep_compares_and_chooses_nothing(kdsweep: Command, tmp_path):
    shown = kdsweep(*SWEEP).stdout
    lines = [line for line in shown.splitlines() if line.startswith("[")]
    assert len(lines) == 4 and all(re.search(r"seed=\d  test \d+\.\d\d %  trained", line) for line in lines)
    says = "No image was held back for validation, so nothing was selected: the weights of the last epoch"
    assert f"{says} are compared, and choosing a recipe by its test accuracy would flatter it." in shown
    assert "val %" not in shown and "best" not in shown and "/model" not in shown
    first, *_ = re.findall(r"^student +(\w+) +(\d)", shown, re.M)
    assert first == ("scratch", "0"), "in the order of the sweep"

    results = JobResult.load_all(tmp_path / "sweep")
    assert all(job.val is None and job.objective is None for job in results)
    assert all(job.dataset["images"] == {"train": 200, "test": 100} for job in results)
    parent, *children = runs(tmp_path)
    assert parent.info.status == "FINISHED" and parent.data.tags["mlflow.note.content"].startswith(says)
    for run in children:
        assert {"train/loss", "test/accuracy"} <= run.data.metrics.keys()
        assert not [name for name in run.data.metrics if "val/" in name]
    page = (tmp_path / "sweep" / "report.html").read_text()
    text = words(page)
    assert f"{says} are compared" in text and "In the order of the sweep" in text
    assert "NaN" not in text and "best recipe" not in text and "What to ship" not in text
    assert "validation accuracy" not in text and '"val/accuracy"' not in page
    assert {"sweep.png", "curves.png"} <= artifacts(tmp_path, parent)

    again = kdsweep(*SWEEP[:-4], "hydra.sweep.dir=again", *TINY).stdout
    assert again.count("%  reused") == 4 and "trained" not in again

    done = also(tmp_path, "export", "sweep", "--to", "safetensors", "--out", "out", status=1)
    assert done.stderr.splitlines() == [
        "kdsweep-export: no image was held back for validation (dataset.val_fraction=0), so no job is the "
        "best; choose one by --job N, allowed: 0, 1, 2, 3"
    ]
    done = also(tmp_path, "export", "sweep", "--job", "2", "--to", "safetensors", "--out", "out", "--json")
    assert json.loads(done.stdout)["val_accuracy"] is None
    card = (tmp_path / "out" / "README.md").read_text()
    assert "nothing was selected" in card and "The weights are those of epoch 2 of 2." in card
    also(tmp_path, "export", "sweep/2", "--to", "safetensors", "--out", "alone")
    shown = also(tmp_path, "store", "show", results[2].student.key).stdout
    assert re.search(r"^best +epoch 2 of 2$", shown, re.M)

    kdsweep("-m", "method=scratch,kd", "seed=range(2)", "hydra.sweep.dir=with", *TINY)
    told = json.loads(also(tmp_path, "report", "sweep", "with", "--out", "both", "--json").stdout)
    assert [row["rank"] for row in told["rows"]] == [1, 2, None, None]
    assert [row["val"] is None for row in told["rows"]] == [False, False, True, True]
    assert "they come last and are never chosen" in words((tmp_path / "both" / "report.html").read_text())


@pytest.mark.long
def test_a_job_alone_has_its_model_and_an_ensemble_without_validation(kdsweep: Command, tmp_path):
    shown = kdsweep(NONE, "method=ban", "chain_length=2", "alpha=0", *TINY).stdout
    assert "val" not in shown.replace("val_fraction", "") and "runs:/" in shown
    (folder,) = tmp_path.glob("outputs/*/*")
    result = JobResult.load(folder)
    assert "ensemble" in result.networks and {each.val for each in result.networks.values()} == {None}
    also(tmp_path, "export", str(folder), "--to", "safetensors", "--out", "out")


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            ["training.keep=best", "teacher.training.keep=last"],
            f"training.keep=best: would choose an epoch {WHY}set training.keep=last",
        ),
        (
            ["training.keep=best"],
            f"teacher.training.keep=best, training.keep=best: would choose an epoch {WHY}set "
            "teacher.training.keep=last training.keep=last",
        ),
        (
            ["training.patience=1", "method=scratch"],
            f"training.patience=1: would end training {WHY}set training.patience=null",
        ),
        (
            ["training.keep=best", "method=takd", "chain_length=2", "experiment=mnist_takd", "dataset=digits",
             "teacher.training.keep=last", "baseline=false"],
            f"student.assistants.0.training.keep=best, training.keep=best: would choose an epoch {WHY}set "
            "student.assistants.0.training.keep=last training.keep=last",
        ),
        (
            ["register=mine"],
            f"register=mine: chooses the version {WHY}leave it out, and register a job in MLflow",
        ),
        (
            ["-m", "search=temperature_alpha"],
            f"objective=val/accuracy: the search chooses trials by it, {WHY.removeprefix('by validation, ')}"
            "search with dataset.val_fraction=0.1, then train what it chose with 0",
        ),
        (
            ["-m", "temperature=1,4", "confirm=3"],
            f"confirm=3: chooses a recipe {WHY}leave it out, and give every recipe several seeds, as "
            "seed=range(3) does",
        ),
        (
            ["-m", "method=kd,dkd", "tune=3", "confirm=3"],
            f"tune=3: chooses trials {WHY}tune with dataset.val_fraction=0.1, then train what it chose with "
            "0",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_what_would_choose_is_refused_before_anything_trains(kdsweep: Command, tmp_path, overrides, line):
    done = kdsweep(*overrides, NONE, "training.epochs=3", status=1)
    refused = [each for each in done.stderr.splitlines() if "val_fraction" in each]
    assert [each.removeprefix("kdsweep: ") for each in refused] == [line]
    assert not list(tmp_path.glob("kdsweep-store/*/stage.json"))


@pytest.mark.parametrize(
    "overrides",
    [
        ["training.keep=best", "training.monitor=train/loss", "training.patience=1"],
        ["training.keep=best", "training.epochs=1"],
        ["-m", "search=pareto", "objective=[cost/flops,cost/parameters]"],
    ],
    ids=" ".join,
)
def test_what_needs_no_validation_is_allowed(kdsweep: Command, overrides):
    kdsweep(*overrides, NONE, "plan=true")


def test_images_with_a_val_split_of_their_own_choose_as_before(kdsweep: Command, tmp_path):
    from image_files import write_splits

    write_splits(tmp_path / "data", train=4, val=2, test=3)
    kdsweep(
        "dataset=image_folder", f"dataset.root={tmp_path / 'data'}", "dataset.image_size=16", NONE,
        "training.keep=best", "method=scratch", "plan=true",
    )  # fmt: skip


@pytest.mark.long
def test_a_killed_job_without_validation_resumes_bit_for_bit(kdsweep: Command, tmp_path):
    arguments = (NONE, *LONG, "training.epochs=30")
    process = start(tmp_path, *arguments)
    stop_in_training(process, tmp_path, signal.SIGKILL)
    kdsweep(*arguments)
    kdsweep(*arguments, "store=whole")
    (resumed,) = tmp_path.glob("kdsweep-store/*/weights.safetensors")
    (whole,) = tmp_path.glob("whole/*/weights.safetensors")
    first, second = load_file(resumed), load_file(whole)
    assert resumed.parent.name == whole.parent.name and first.keys() == second.keys()
    assert all(first[name].equal(second[name]) for name in first)
