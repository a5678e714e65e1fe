"""What plan=true says is what a sweep then does."""

import json
import re
import time

import pytest
from helpers import MLP, TINY, Command, make_stage

from kdsweep.config import Augment, Hardware
from kdsweep.stage import Stage
from kdsweep.stages.estimate import Need, Paces, makespan
from kdsweep.stages.show_plan import Planned, show_plan
from kdsweep.store.origin import Origin
from kdsweep.store.store import Store
from kdsweep.store.unfinished import epochs_done


@pytest.mark.long
def test_a_plan_then_its_sweep_then_the_plan_again(kdsweep: Command, tmp_path):
    sweep = ("-m", "method=ban", "chain_length=1,2", "alpha=0,0.5", "seed=range(2)", *TINY)
    planned = kdsweep(*sweep, "plan=true").stdout
    checking, title, *_ = planned.splitlines()
    assert checking == "checking the sweep"
    assert title == "plan of 8 jobs over chain_length, alpha, seed: small_mlp taught by mnist_cnn, digits"
    # teachers and baselines by seed; students of one step are the first generations of those of two
    assert "to train: 12 networks (2 teachers, 2 baselines, 8 students)" in planned
    assert "not in the sum: 12 networks" in planned and "mnist_cnn, small_mlp never trained" in planned
    assert len(re.findall(r"^ +\d ", planned, re.M)) == 8
    assert {path.name for path in tmp_path.iterdir()} == {"kdsweep-store"}  # no run, no folder of a sweep
    assert not list(tmp_path.glob("kdsweep-store/*/stage.json"))

    kdsweep("temperature=9", "baseline=false", *TINY)
    partly = kdsweep(*sweep, "plan=true").stdout
    assert re.search(r"to train: 11 networks \(.*\); in the store: 1$", partly, re.M)
    assert "not in the sum" not in partly and re.search(r"about [\d.]+ s of training$", partly, re.M)
    before = set(tmp_path.glob("kdsweep-store/*/stage.json"))

    kdsweep(*sweep)
    made = set(tmp_path.glob("kdsweep-store/*/stage.json")) - before
    assert len(made) == 11
    runs = {path.name for path in tmp_path.glob("multirun/*/*")}
    again = kdsweep(*sweep, "plan=true").stdout
    assert "nothing to train: all 12 networks" in again
    assert {path.name for path in tmp_path.glob("multirun/*/*")} == runs
    assert "nothing to train" in kdsweep(*TINY, "plan=true", "method=ban", "alpha=0").stdout


@pytest.mark.long
def test_a_hundred_jobs_are_planned_at_once(kdsweep: Command, tmp_path):
    start = time.perf_counter()
    shown = kdsweep("-m", "temperature=range(1,21)", "alpha=0.1,0.3,0.5,0.7,0.9", "plan=true").stdout
    taken = time.perf_counter() - start
    assert "to train: 102 networks (1 teacher, 1 baseline, 100 students)" in shown
    assert len(re.findall(r"^ *\d+ +\d+ +0\.\d", shown, re.M)) == 100
    assert taken < 15  # some 3 s on a machine at rest; this one may be busy


def test_a_search_is_planned_as_far_as_it_is_known(kdsweep: Command, tmp_path):
    search = ("-m", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=7", "alpha=interval(0,1)", "seed=0,1")
    shown = kdsweep(*search, *TINY, "plan=true").stdout
    assert "plan of 7 jobs over alpha, seed" in shown
    assert "known in advance: nothing to train" in shown
    assert "to train: at most 21 networks" in shown
    assert {path.name for path in tmp_path.iterdir()} == {"kdsweep-store"}


def test_a_plan_of_what_is_wrong_says_so(kdsweep: Command):
    assert "temperature=-1" in kdsweep("-m", "temperature=1,-1", "plan=true", status=1).stderr
    assert "temperature=-1" in kdsweep("temperature=-1", "plan=true", status=1).stderr


def need(name: str, seconds: float, *parents: Stage, there: bool = False) -> Need:
    stage = make_stage({"_target_": f"a.{name}"}, parents=parents)
    return Need(name, stage, [0], there, 0, 1, seconds, False)


def test_jobs_at_once_share_what_they_can():
    teacher = need("teacher", 10)
    alone = need("alone", 4)
    students = [need(f"student{i}", 3, teacher.stage) for i in range(3)]
    jobs = [[teacher, alone, student] for student in students]
    assert makespan(jobs, 1) == 10 + 4 + 3 * 3
    # while one trains the teacher, another trains the baseline and then waits
    assert makespan(jobs, 2) == 10 + 3 + 3
    assert makespan(jobs, 3) == 10 + 3
    kept = need("teacher", 10, there=True)
    assert makespan([[kept, student] for student in students], 3) == 3
    assert makespan([[kept]], 1) == 0


def store_with(tmp_path, *records) -> Store:
    store = Store(tmp_path).made()
    for i, (stage, seconds, epochs, threads) in enumerate(records):
        (tmp_path / str(i)).mkdir()
        record = {"stage": stage.describe(), "seconds": seconds, "history": [{}] * epochs,
                  "made_by": {"threads": threads}}  # fmt: skip
        (tmp_path / str(i) / "stage.json").write_text(json.dumps(record))
    return store


HARDWARE = Hardware(device="cpu", threads=2)


def test_pace_is_that_of_the_same_network_data_and_recipe(tmp_path):
    teacher = make_stage()
    runs = [(make_stage(epochs=8), 16, 8, 2), (make_stage(seed=1), 30, 10, 2)]
    runs += [(make_stage(parents=(teacher,)), 50, 10, 2), (make_stage(seed=2), 900, 9, 1)]
    store = store_with(tmp_path, *runs)
    paces = Paces(store, HARDWARE)
    assert paces.of(make_stage(learning_rate=0.5, seed=7)).seconds == 2.5  # median of 2 and 3
    assert paces.of(make_stage(parents=(teacher,), seed=3)).seconds == 5
    one = Paces(store, HARDWARE.model_copy(update={"threads": 1})).of(make_stage())
    assert (one.seconds, one.threads) == (100, 1)


@pytest.mark.parametrize(
    "other",
    [make_stage({**MLP, "hidden": [17]}), make_stage(batch_size=99), make_stage(augment=Augment(rotation=9))],
)
def test_no_pace_for_another(tmp_path, other):
    assert Paces(store_with(tmp_path, (make_stage(), 16, 8, 2)), HARDWARE).of(other) is None


def test_a_search_takes_at_most_its_longest_trials(tmp_path, capsys):
    def student(epochs: int, **other) -> dict[str, Stage]:
        return {"teacher": make_stage(seed=5), "student": make_stage(epochs=epochs, **other)}

    jobs = [Planned({"training.epochs": epochs}, student(epochs)) for epochs in (4, 10)]
    store = store_with(tmp_path, (make_stage(seed=1), 8, 4, 2))  # 2 s an epoch, of the teacher too
    longest = jobs[1].links["student"].key  # which is there; no bound, for other trials are as long
    store.obtain(longest, lambda folder: (folder / "weights").touch(), origin=Origin("stage", {}))
    assert store.find(longest)
    show_plan(jobs, "a search", store, HARDWARE, 1, trials=7)
    shown = capsys.readouterr().out
    assert "to train: at most 8 networks" in shown
    assert "at most about 2 min 28 s of training, for all 7 trials" in shown  # 4 × 2 s and 7 × 10 × 2 s

    jobs.append(Planned({"training.epochs": 4}, student(4, batch_size=99)))
    show_plan(jobs, "a search", store, HARDWARE, 1, trials=7)
    shown = capsys.readouterr().out
    assert "duration unknown: " in shown and "never trained on these data" in shown
    assert "at most about" not in shown


def test_what_cannot_be_read_has_no_pace(tmp_path):
    store = store_with(tmp_path, (make_stage(), 16, 8, 2))
    (tmp_path / "0" / "stage.json").write_text("{")
    assert Paces(store, HARDWARE).of(make_stage()) is None
    assert epochs_done(tmp_path / "none") == 0
    (tmp_path / "0" / "checkpoint.safetensors").write_bytes(b"\xff" * 20)
    assert epochs_done(tmp_path / "0") == 0
