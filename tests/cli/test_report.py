"""`kdsweep-report` on real sweeps: its numbers from MLflow's metrics by another path, and what goes wrong."""

import json
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from helpers import (
    COMMAND,
    LONG,
    TINY,
    Command,
    artifacts,
    client,
    environment,
    runs,
    start,
    stop_in_training,
    sweep_folder,
)
from scipy import stats

from kdsweep.results.result import JobResult, SweepInfo

FILES = {"sweep.csv", "sweep.txt", "sweep.png", "f1.png", "roc_auc.png", "curves.png", "report.html"}
LOGGED = FILES | {"sweep.json", "note.png"}


@pytest.fixture
def report(tmp_path: Path) -> Command:
    def run(*arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [f"{COMMAND}-report", *arguments],
            cwd=tmp_path, env=environment(), capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == status, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    return run


def refused(report: Command, *arguments: str) -> str:
    """The one line that the command leaves by."""
    done = report(*arguments, status=1)
    (line,) = done.stderr.splitlines()
    assert done.stdout == ""
    return line


def check(told: dict | None, differences: np.ndarray) -> None:
    """A difference of the report against float64's own; test_statistics.py has how images count."""
    assert told is not None
    interval = told["interval"]
    assert interval["mean"] == pytest.approx(differences.mean(), abs=1e-12)
    over_seeds = stats.t.ppf(0.975, len(differences) - 1) * stats.sem(differences)
    assert interval["over_seeds"] == pytest.approx(over_seeds, abs=1e-9)
    assert interval["half"] >= max(interval["over_seeds"], interval["over_images"])
    beyond = abs(interval["mean"]) > interval["half"]
    assert told["claimed"] == (beyond and told["p"] is not None and told["p"] <= 0.05)


@pytest.mark.long
def test_the_numbers_are_those_of_mlflow(kdsweep: Command, report: Command, tmp_path):
    kdsweep("-m", "temperature=1,4,16", "alpha=0.1,0.5", "seed=range(3)", *TINY)
    folder = sweep_folder(tmp_path)
    parent, *children = runs(tmp_path)
    assert artifacts(tmp_path, parent) == LOGGED
    by_recipe: dict[tuple[float, float], dict[int, dict[str, float]]] = {}
    for run in children:
        params = run.data.params
        recipe = by_recipe.setdefault((float(params["temperature"]), float(params["alpha"])), {})
        recipe[int(params["seed"])] = run.data.metrics
    assert len(by_recipe) == 6 and all(len(seeds) == 3 for seeds in by_recipe.values())

    def figures(recipe: tuple[float, float], name: str) -> np.ndarray:
        return np.array([by_recipe[recipe][seed][name] for seed in range(3)], np.float64)

    told = json.loads(report(str(folder), "--json").stdout)
    validated = {
        each: (-figures(each, "best/val/accuracy").mean(), figures(each, "best/val/cross_entropy").mean())
        for each in by_recipe
    }
    order = sorted(by_recipe, key=validated.__getitem__)
    assert [(row["values"]["temperature"], row["values"]["alpha"]) for row in told["rows"]] == order
    versus = {
        "versus_alone": [figures(r, "test/accuracy") - figures(r, "scratch/test/accuracy") for r in order],
        "versus_teacher": [figures(r, "test/accuracy") - figures(r, "teacher/test/accuracy") for r in order],
        "versus_best": [figures(r, "test/accuracy") - figures(order[0], "test/accuracy") for r in order],
    }
    for name, differences in versus.items():
        of = differences[1:] if name == "versus_best" else differences
        rows = told["rows"][1:] if name == "versus_best" else told["rows"]
        for row, difference in zip(rows, of, strict=True):
            check(row[name], difference)
    assert [row["versus_alone"]["primary"] for row in told["rows"]] == [True, *[False] * 5]
    assert all(row["versus_alone"]["p"] is not None for row in told["rows"])
    assert {row["versus_alone"]["among"] for row in told["rows"][1:]} == {10}, "alone and best, five each"
    assert all(row["versus_teacher"]["p"] is None for row in told["rows"]), "measured, not claimed"
    for row, recipe in zip(told["rows"], order, strict=True):
        test = figures(recipe, "test/accuracy")
        assert row["test"]["mean"] == pytest.approx(test.mean(), abs=1e-12)
        half = stats.t.ppf(0.975, 2) * test.std(ddof=1) / np.sqrt(3)
        assert row["test"]["over_seeds"] == pytest.approx(half, abs=1e-9)
        assert row["test"]["half"] >= row["test"]["over_images"] > 0
        assert row["seeds"] == [0, 1, 2]
        assert row["cost"]["flops"] == figures(recipe, "cost/flops").mean()
        assert row["teacher_cost"]["parameters"] == figures(recipe, "teacher/cost/parameters").mean()
    best = figures(order[0], "test/accuracy")
    assert told["answer"][0].startswith(
        f"The best of 6 recipes by validation, T={order[0][0]:g} α={order[0][1]:g}, reaches "
        f"{100 * best.mean():.2f} ± "
    )
    note = parent.data.tags["mlflow.note.content"]
    assert note.startswith(told["answer"][0].split(",")[0]) and note.count("\n|") == 8

    shutil.rmtree(tmp_path / "multirun")
    for named in ("kdsweep", parent.info.run_id):
        again = json.loads(report(named, "--json", "--out", "again").stdout)
        assert [again["answer"], again["rows"]] == [told["answer"], told["rows"]]
        assert {Path(file).name for file in again["files"]} == FILES
        assert all((tmp_path / file).is_file() for file in again["files"])


@pytest.mark.long
def test_several_sweeps_and_a_failed_job(kdsweep: Command, report: Command, tmp_path):
    kdsweep("-m", "hydra.sweep.dir=a", "temperature=1,4", "training.learning_rate=0.001", *TINY)
    rates = "training.learning_rate=0.01,0.001,1e30"
    kdsweep("-m", "hydra.sweep.dir=b", rates, "temperature=1", *TINY, status=1)
    shown = report("a", "b").stdout
    # the rate of the first sweep is that of its config, 0.001: the second swept one of its recipes again
    assert "The best of 3 recipes by validation" in shown and "1 of 5 jobs failed: " in shown
    assert "the loss is no longer finite" in shown and "One seed cannot show" in shown
    assert {file.name for file in (tmp_path / "report").iterdir()} == FILES
    together = json.loads(report("a", "b", "--json").stdout)
    assert json.loads(report("kdsweep", "a", "--json").stdout)["rows"] == together["rows"], "each sweep once"
    (lost,) = together["lost"]
    assert lost["swept"]["training.learning_rate"] == 1e30
    assert {row["label"] for row in together["rows"]} == {
        f"T={t} training.learning_rate={rate}" for t, rate in ((1, 0.001), (1, 0.01), (4, 0.001))
    }
    parent = client(tmp_path).get_run(SweepInfo.load(tmp_path / "b").run_id)
    assert "1 of 3 jobs failed" in parent.data.tags["mlflow.note.content"]
    job = JobResult.load(tmp_path / "a" / "0")
    assert json.loads(report("a/0", "--json", "--out", "job").stdout)["rows"][0]["run_ids"] == [job.run_id]


@pytest.mark.long
def test_a_killed_sweep_has_a_report_of_what_there_is(report: Command, tmp_path):
    method, _, *others = LONG
    process = start(tmp_path, "-m", method, "training.epochs=2,200", *others)
    for line in process.stdout:
        if line.startswith("[1/2]"):
            break
    stop_in_training(process, tmp_path, signal.SIGKILL)
    parent = runs(tmp_path)[0]
    for named in (str(sweep_folder(tmp_path)), parent.info.run_id):
        shown = report(named).stdout
        assert "over one seed" in shown and "1 of 2 jobs was without a result" in shown
    assert (sweep_folder(tmp_path) / "report.html").exists()


def test_mistakes_are_told_in_a_line(report: Command, tmp_path):
    assert "no such database" in refused(report, "nowhere")
    (tmp_path / "empty").mkdir()
    assert "has no sweep.json" in refused(report, "empty")
    assert "required: WHAT" in report(status=1).stderr
    assert "exit status: 0 done" in report("--help").stdout


@pytest.mark.long
def test_a_sweep_of_which_nothing_finished_has_a_report_that_says_why(
    kdsweep: Command, report: Command, tmp_path
):
    rates = "training.learning_rate=1e30,1e31"
    kdsweep("-m", "hydra.sweep.dir=bad", rates, "method=scratch", *TINY, status=1)
    assert "the loss is no longer finite" in (tmp_path / "bad" / "report.html").read_text()
    for named in ("bad", "kdsweep"):
        shown = report(named).stdout
        assert "None of 2 jobs finished." in shown and "the loss is no longer finite" in shown
    assert "no sweep of that name" in refused(report, "nobody")
    (tmp_path / "taken").touch()
    assert "--out taken: is a file; give a folder" in refused(report, "bad", "--out", "taken")
    (tmp_path / "bad" / "0" / "result.json").write_text("{")
    assert "cannot be read" in refused(report, "bad")


@pytest.mark.long
def test_a_report_that_fails_loses_no_sweep(kdsweep: Command, tmp_path):
    (tmp_path / "out" / "report.html").mkdir(parents=True)  # so that no file can be written there
    done = kdsweep("-m", "hydra.sweep.dir=out", "seed=0,1", "method=scratch", *TINY)
    assert "the report is incomplete: " in done.stderr and "rebuild it with kdsweep-report out" in done.stderr
    assert "Traceback" not in done.stderr
    parent = runs(tmp_path)[0]
    assert parent.info.status == "FINISHED"
    assert artifacts(tmp_path, parent) == LOGGED - {"report.html"}
    assert "over 2 seeds" in parent.data.tags["mlflow.note.content"]
