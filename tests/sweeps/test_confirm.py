"""confirm=K: fresh seeds for the recipe that a sweep chose, by the installed command."""

import csv
import json
from pathlib import Path

import pytest
from helpers import TINY, Command

from kdsweep.analysis.leaderboard import leaderboard
from kdsweep.cli.records import read
from kdsweep.results.result import JobResult

SHORT = (*TINY, "hardware.threads=1")


def only(folder: Path) -> Path:
    (found,) = folder.glob("multirun/*/*")
    return found


@pytest.mark.long
def test_the_chosen_recipe_and_the_student_alone_run_again(kdsweep: Command, tmp_path):
    shown = kdsweep("-m", "temperature=1,4", "seed=0,2", "confirm=2", "baseline=false", *SHORT).stdout
    record = read(str(only(tmp_path)), "")[0]
    assert [job.seed for job in record.results] == [0, 2, 0, 2] and record.sweep.jobs == 4
    assert [job.seed for job in record.confirmations] == [1, 3], "seeds that no job had"
    (best, _) = leaderboard(record)
    for job in record.confirmations:
        assert job.swept["temperature"] == best.values["temperature"]
        assert "scratch" in job.networks, "whatever the sweep's baseline"
        assert job.entries and not job.student.reused
    (row,) = leaderboard(record.confirmation)
    assert row.seeds == (1, 3) and row.versus_alone is not None
    assert f"With 2 fresh seeds, which had no part in the choice, {best.label} reaches " in shown.replace(
        "\n", " "
    )
    assert shown.count("[confirm] T=") == 2 and "[4/4]" in shown
    with (only(tmp_path) / "sweep.csv").open() as stream:
        assert [line["confirms"] for line in csv.DictReader(stream)] == ["False"] * 4 + ["True"] * 2
    again = kdsweep("-m", "temperature=1,4", "seed=0,2", "confirm=2", "baseline=false", *SHORT).stdout
    assert again.count("reused") >= 6 and "trained in" not in again.split("confirm:")[1].split("student ")[0]


@pytest.mark.long
def test_mlflow_alone_tells_the_same(kdsweep: Command, tmp_path):
    kdsweep("-m", "temperature=1,4", "confirm=2", *SHORT)
    folder = only(tmp_path)
    (here,) = read(str(folder), "")
    (there,) = read(here.sweep.run_id, f"sqlite:///{tmp_path}/mlflow.db")
    assert [job.run_id for job in there.confirmations] == [job.run_id for job in here.confirmations]
    assert [job.run_id for job in there.results] == [job.run_id for job in here.results]


@pytest.mark.long
def test_several_at_a_time(kdsweep: Command, tmp_path):
    kdsweep("-m", "hardware=cpu_parallel", "temperature=1,4", "confirm=2", *SHORT)
    results = JobResult.load_all(only(tmp_path))
    assert [job.confirms for job in results] == [False, False, True, True]


@pytest.mark.long
def test_a_search_is_confirmed_too(kdsweep: Command, tmp_path):
    shown = kdsweep("-m", "search=temperature_alpha", "search.n_trials=3", "confirm=2", *SHORT).stdout
    record = read(str(only(tmp_path)), "")[0]
    assert len(record.results) == 3 and [job.seed for job in record.confirmations] == [1, 2]
    best = leaderboard(record)[0]
    for job in record.confirmations:
        assert job.swept == best.values, "a trial's own values"
    assert "With 2 fresh seeds" in shown
    further = kdsweep("-m", "search=temperature_alpha", "search.n_trials=4", "confirm=2", *SHORT).stdout
    assert "resuming: 3 of 4 trials" in further and "With 2 fresh seeds" in further


@pytest.mark.long
def test_what_there_is_nothing_to_confirm_of(kdsweep: Command, tmp_path):
    shown = kdsweep("-m", "method=scratch", "seed=0,1", "confirm=2", *SHORT).stdout
    assert "confirm=2: no distilled student has finished, so there is nothing to confirm" in shown
    assert not read(str(only(tmp_path)), "")[0].confirmations


@pytest.mark.long
def test_a_plan_counts_the_fresh_seeds(kdsweep: Command):
    shown = kdsweep("-m", "temperature=1,4", "confirm=3", "plan=true", *SHORT).stdout
    assert "then confirm=3: at most 9 networks of 3 fresh seeds" in shown


@pytest.mark.long
@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("confirm=3",), "confirm=3: needs -m"),
        (("confirm=3", "plan=true"), "confirm=3: needs -m"),
        (("-m", "confirm=2,3"), "confirm: cannot be swept"),
        (("-m", "temperature=1,4", "confirm=1"), "confirm=1: must be greater than or equal to 2"),
        (("-m", "temperature=1,4", "confirm=all"), "confirm=all: must be a whole number"),
    ],
)
def test_mistakes(kdsweep: Command, tmp_path, arguments, why):
    refused = kdsweep(*arguments, status=1)
    assert why in refused.stderr and "Traceback" not in refused.stderr
    assert not list(tmp_path.glob("kdsweep-store/*/stage.json"))


@pytest.mark.long
def test_an_interrupted_confirmation_goes_on(kdsweep: Command, tmp_path):
    """What the sweep trained is there; only the fresh seeds are trained."""
    kdsweep("-m", "temperature=1,4", *SHORT)
    shown = kdsweep("-m", "temperature=1,4", "confirm=2", *SHORT).stdout
    before, after = shown.split("confirm:")
    assert before.count("reused") == 2 and after.count("trained in") == 2
    assert (
        json.loads((sorted(tmp_path.glob("multirun/*/*"))[1] / "sweep.json").read_text())["confirm_from"] == 2
    )
