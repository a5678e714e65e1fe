"""tune=N confirm=K: methods compared at equal budgets, by the installed command."""

import csv
import json
import subprocess

import pytest
from helpers import COMMAND, TINY, Command, composed, environment, sweep_folder
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep
from zoo_examples import METHODS, method

from kdsweep.analysis.leaderboard import leaderboard
from kdsweep.cli.records import read
from kdsweep.errors import ConfigError
from kdsweep.results.result import JobResult
from kdsweep.sweeps.tune import trials

SWEEP = ("-m", "method=kd,dkd,scratch", "tune=3", "confirm=2", *TINY)


def test_each_method_gets_as_many_trials_and_its_best_meets_its_defaults(kdsweep: Command, tmp_path):
    shown = kdsweep(*SWEEP).stdout
    (record,) = read(str(sweep_folder(tmp_path)), "")
    swept = [trial.swept for trial in record.trials]
    assert [each["method"] for each in swept] == ["kd"] * 3 + ["dkd"] * 3 + ["scratch"]
    assert swept[0] == {"method": "kd"} and swept[3] == {"method": "dkd"}, "the first has the defaults"
    assert [set(each) - {"method"} for each in swept[1:3]] == [{"temperature", "alpha"}] * 2
    assert [set(each) - {"method"} for each in swept[4:6]] == [{"temperature", "method.terms.dkd.beta"}] * 2
    rows = leaderboard(record)
    assert {row.label for row in rows} >= {"method=kd", "method=dkd", "method=scratch"}
    assert all(row.seeds == (1, 2) for row in rows), "no trial had these seeds"
    for name in ("kd", "dkd"):
        of_method = [trial for trial in record.trials if trial.swept["method"] == name]
        best = min(of_method, key=JobResult.order)
        assert best.swept in [row.values for row in rows]
    (kd,) = [row for row in rows if row.versus_kd is None]
    assert kd.values["method"] == "kd"
    assert "Each of 3 methods was tuned by up to 3 trials" in shown.replace("\n", " ")
    assert shown.count("[confirm] method=kd") >= 2 and "vs tuned kd" in shown
    folder = sweep_folder(tmp_path)
    with (folder / "trials.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == 7
    words = [f"{COMMAND}-report", str(folder), "--json"]
    done = subprocess.run(words, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True)
    again = json.loads(done.stdout)
    assert [row["label"] for row in again["rows"]] == [row.label for row in rows]
    assert all("versus_kd" in row for row in again["rows"])


@pytest.mark.long
def test_the_same_command_trains_nothing_again(kdsweep: Command, tmp_path):
    kdsweep(*SWEEP)
    again = kdsweep(*SWEEP).stdout
    assert "trained in" not in again and again.count("reused") >= 7 + 2 * 3
    assert "nothing to train: all" in kdsweep(*SWEEP, "plan=true").stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("-m", "method=kd,dkd", "tune=3"), "tune=3: needs confirm, the number of fresh seeds"),
        (("-m", "temperature=1,4", "tune=3", "confirm=2"), "temperature: cannot be swept beside tune=3"),
        (("-m", "search=temperature_alpha", "tune=3", "confirm=2"), "not for search=temperature_alpha"),
        (("tune=3",), "tune=3: needs -m"),
        (("-m", "method=kd,dkd", "tune=0", "confirm=2"), "tune=0: must be greater than or equal to 1"),
        (
            ("-m", "method=kd", "tune=2", "confirm=2", "method.options.alpha.search=normal"),
            "method.options.alpha.search=normal: must be interval(low, high) or choice(a, b, …)",
        ),
    ],
)
def test_what_cannot_be_is_refused(kdsweep: Command, tmp_path, arguments, told):
    assert told in kdsweep(*arguments, *TINY, status=1).stderr
    assert not list(tmp_path.glob("multirun/*")) and not (tmp_path / "kdsweep-store").exists()


@pytest.mark.parametrize("name", METHODS)
def test_the_trials_of_every_method_lie_in_its_space_and_compose(name):
    drawn = list(trials({"method": method(name).model_dump()}, 5))
    spaces = {key: option.search for key, option in method(name).options.items() if option.search}
    assert len(drawn) == (5 if spaces else 1) and drawn[0] == []
    assert drawn == list(trials({"method": method(name).model_dump()}, 5)), "the same whenever it is asked"
    for lines in drawn[1:]:
        composed(f"method={name}", *lines)
        for line in lines:
            key, _, value = line.partition("=")
            (space,) = OverridesParser.create().parse_overrides([f"{key}={spaces[key]}"])
            if isinstance(space.value(), IntervalSweep):
                assert space.value().start <= float(value) <= space.value().end
    for key in spaces:
        values = [line for lines in drawn[1:] for line in lines if line.startswith(f"{key}=")]
        assert len(set(values)) > 1


def test_a_logarithmic_space_is_covered_evenly_on_that_scale():
    option = {"sign": "T", "axis": "log", "search": "interval(1, 16)"}
    drawn = list(trials({"method": {"name": "own", "options": {"temperature": option}}}, 65))[1:]
    values = [float(lines[0].partition("=")[2]) for lines in drawn]
    assert [sum(low <= value < 2 * low for value in values) for low in (1, 2, 4, 8)] == [16] * 4


def test_a_space_that_is_none_is_refused():
    option = {"sign": "T", "search": "range(1, 3)"}
    with pytest.raises(ConfigError, match=r"must be interval\(low, high\)"):
        list(trials({"method": {"name": "own", "options": {"temperature": option}}}, 3))
