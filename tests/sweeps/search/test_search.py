"""Optuna's searches through the command: pruned, continued, killed; by one worker and by several."""

import dataclasses
import os
import signal
import time
from pathlib import Path

import invented
import optuna
import pytest
from helpers import TINY, Command, runs, start
from mlflow import MlflowClient
from omegaconf import OmegaConf
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from kdsweep.analysis.combine import together
from kdsweep.analysis.leaderboard import best_job, leaderboard
from kdsweep.cli.records import read
from kdsweep.errors import AskedToLeave
from kdsweep.results.network import Selection
from kdsweep.results.result import JobResult, SweepInfo
from kdsweep.sweeps.search.outputs import best_trial
from kdsweep.sweeps.search.progress import trial_lines
from kdsweep.sweeps.search.space import Terms, make_sampler
from kdsweep.sweeps.search.trials import Search, counted, failures
from kdsweep.sweeps.search.worker import Worker
from kdsweep.system.liveness import Alive

SEARCH = ("-m", "search=temperature_alpha", "baseline=false", *TINY)
TWO = ("hardware=cpu_parallel", "hardware.jobs=2", "hardware.threads=1")

NETWORK = """
import os, signal, time
from pathlib import Path
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes, in_channels, image_size, mood="fine"):
        super().__init__()
        pixels = in_channels * image_size[0] * image_size[1]
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(pixels, num_classes))
        self.mood = mood
    def forward(self, images):
        if self.mood == "deadly" and self.training:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.mood == "slow" and self.training:
            time.sleep(0.5)
        return self.layers(images) * (float("nan") if self.mood == "broken" and self.training else 1)
"""
MOODY = (
    "-m", "search=optuna", "method=scratch", *TINY, "~student.model.hidden",
    "student.model._target_=moody.Net", "student.name=moody",
)  # fmt: skip


def trials(folder: Path) -> list[FrozenTrial]:
    storage = f"sqlite:///{folder}/optuna.db"
    (name,) = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=name, storage=storage).trials


def states(folder: Path) -> list[str]:
    return [trial.state.name for trial in trials(folder)]


def params(folder: Path) -> list[dict[str, object]]:
    return [trial.params for trial in trials(folder)]


def newest(folder: Path) -> Path:
    return max(folder.glob("multirun/*/*"))


@pytest.fixture
def moody(tmp_path: Path) -> Path:
    """A folder with a network that fails as it is told to."""
    (tmp_path / "moody.py").write_text(NETWORK)
    return tmp_path


@pytest.mark.long
def test_a_search_goes_on_to_the_number_wanted(kdsweep: Command, tmp_path):
    first = kdsweep(*SEARCH, "search.n_trials=3")
    assert "3 of 3 trials: 3 finished" in first.stdout
    begun = params(tmp_path)
    assert all(1 <= each["temperature"] <= 64 and 0 <= each["alpha"] <= 1 for each in begun)
    assert len({each["temperature"] for each in begun}) == 3

    on = kdsweep(*SEARCH, "search.n_trials=5")
    assert "resuming: 3 of 5 trials" in on.stdout
    assert [line[:5] for line in on.stdout.splitlines() if line.startswith("[")] == ["[4/5]", "[5/5]"]
    assert params(tmp_path)[:3] == begun

    again = kdsweep(*SEARCH, "search.n_trials=5")
    assert "5 of 5 trials: 5 finished" in again.stdout
    assert len(trials(tmp_path)) == 5

    # the same command gives the same trials: one that is not interrupted too
    found = params(tmp_path)
    (tmp_path / "optuna.db").unlink()
    kdsweep(*SEARCH, "search.n_trials=5")
    assert params(tmp_path) == found

    parents = [run for run in runs(tmp_path) if "mlflow.parentRunId" not in run.data.tags]
    assert {run.info.status for run in parents} == {"FINISHED"}


@pytest.mark.long
def test_the_best_trial_is_an_experiment(kdsweep: Command, tmp_path):
    done = kdsweep(
        *SEARCH, "search.n_trials=4", "student.model.hidden=[8],[24]", "training=sgd", "alpha=0.1,0.5"
    )
    folder = newest(tmp_path)
    text = (folder / "experiment" / "best.yaml").read_text()
    _, command, about, *_ = text.splitlines()
    best = trials(tmp_path)[int(about.split()[2])]
    assert best.value == max(trial.value for trial in trials(tmp_path))
    assert command == f"# kdsweep --config-dir {folder.relative_to(tmp_path)} experiment=best"

    again = kdsweep(*command.split()[2:])
    assert again.stdout.count("reused") == 2 * 2, (
        again.stdout
    )  # teacher and student, as lines and in the table
    result = OmegaConf.load(max(tmp_path.glob("outputs/*/*")) / "result.json")
    assert result.objective == best.value
    stored = OmegaConf.load(folder / "optimization_results.yaml")
    assert stored == {"name": "optuna", "best_params": best.params, "best_value": best.value}

    pictures = {file.name for file in (folder / "search").iterdir()}
    assert pictures == {"history.png", "slice.png", "importance.png", "contour.png", "epochs.png"}
    (parent,) = [run for run in runs(tmp_path) if run.data.params == {}]
    logged = tmp_path / "mlruns" / parent.info.experiment_id / parent.info.run_id / "artifacts"
    assert {file.name for file in (logged / "search").iterdir()} == pictures
    assert (logged / "experiment" / "best.yaml").read_text() == text
    assert OmegaConf.load(logged / "optimization_results.yaml") == stored
    assert "categorical units" not in done.stdout + done.stderr


@pytest.mark.long
def test_a_search_that_goes_on_tells_of_all_its_trials(kdsweep: Command, tmp_path):
    """In its table, to MLflow and in what is exported; a run that is gone is told."""
    command = (*SEARCH, "search.n_trials={}", "search.max_failure_rate=1", "training.epochs=1")

    def search(count: int) -> str:
        return kdsweep(*(each.format(count) for each in command)).stdout

    search(3)
    on = search(4)
    folder = newest(tmp_path)
    found = {result.number: result for result in JobResult.load_all(folder)}
    assert sorted(found) == [0, 1, 2, 3]
    first = [trial.user_attrs["kdsweep.run"] for trial in trials(tmp_path)[:3]]
    sweep = SweepInfo.load(folder)
    assert sweep.earlier == first == [found[number].run_id for number in range(3)]
    assert len((folder / "sweep.csv").read_text().splitlines()) > 4
    (record,) = read(sweep.run_id, f"sqlite:///{tmp_path}/mlflow.db")
    assert [result.number for result in record.results] == [0, 1, 2, 3]
    best = best_job(leaderboard(record)[0])
    assert f"  best: trial {best.number}, " in on
    assert f"runs:/{best.run_id}/model" in on

    again = search(4)
    assert "the study has its 4 trials; more with a higher search.n_trials" in again
    assert len(JobResult.load_all(newest(tmp_path))) == 4
    both = together(read("kdsweep", f"sqlite:///{tmp_path}/mlflow.db"))
    assert len(both.results) == 4

    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    logged = [model.source_run_id for model in client.search_logged_models(["1"])]
    assert len(logged) == len(set(logged))  # the same best is logged once
    client.delete_run(first[0])
    lowered = search(2)
    assert "trial 0 is missing from the table: its MLflow run was deleted" in lowered
    assert "4 trials, 2 were wanted: 4 finished" in lowered


def test_equals_are_told_apart_as_in_the_report(tmp_path):
    study = optuna.create_study(direction="maximize")
    for value in (0.5, 0.9, 0.9):
        study.add_trial(optuna.create_trial(value=value))
    results = [invented.job(number, {}) for number in range(3)]
    for result, loss in zip(results, (0.1, 0.3, 0.2), strict=True):
        result.networks["student"] = dataclasses.replace(result.student, val=Selection(0.9, loss))
    assert best_trial(study, study.trials, results).number == 2
    assert best_trial(study, study.trials, results[:2]).number == 1


@pytest.mark.long
def test_a_pruned_trial_stops_at_once_and_is_no_failure(kdsweep: Command, tmp_path):
    kdsweep(
        *SEARCH, "search.n_trials=5", "search.pruner=successive_halving", "training.epochs=8",
        "training.learning_rate=1e-5,1e-3,3e-3",
    )  # fmt: skip
    found = trials(tmp_path)
    pruned = [trial for trial in found if trial.state == TrialState.PRUNED]
    assert pruned
    assert all(0 < len(trial.intermediate_values) < 8 for trial in pruned)
    finished = [trial for trial in found if trial.state == TrialState.COMPLETE]
    assert finished
    for trial in finished:
        assert list(trial.intermediate_values) == list(range(1, 9))
        assert trial.value in trial.intermediate_values.values()
    assert len(pruned) + len(finished) == 5

    marked = [run for run in runs(tmp_path) if run.data.tags.get("kdsweep.pruned") == "true"]
    assert {run.info.status for run in marked} == {"KILLED"}
    assert len(marked) == len(pruned)
    logged = {run.data.metrics["val/accuracy"] for run in marked}
    assert logged == {trial.value for trial in pruned}  # of the epoch after which it was stopped


@pytest.mark.long
def test_failed_trials_have_a_reason_and_the_search_goes_on(kdsweep: Command, moody):
    space = ("+student.model.mood=fine,broken", "hydra/sweeper/sampler=grid", "seed=range(1,3)")
    done = kdsweep(*MOODY, *space, "search.n_trials=4", "search.max_failure_rate=0.5")
    assert sorted(states(moody)) == ["COMPLETE", "COMPLETE", "FAIL", "FAIL"]
    assert "4 of 4 trials: 2 finished, 2 failed" in done.stdout
    assert done.stderr.count("no longer finite") == 2
    for trial in trials(moody):
        if trial.state == TrialState.FAIL:
            assert "no longer finite" in trial.user_attrs["kdsweep.error"]
            assert trial.params["+student.model.mood"] == "broken"

    (moody / "optuna.db").unlink()
    ended = kdsweep(*MOODY, *space, "search.n_trials=4", "search.max_failure_rate=0", status=1)
    assert "search.max_failure_rate=0 allows no more" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert len([state for state in states(moody) if state == "FAIL"]) == 1


@pytest.mark.long
def test_a_killed_search_tries_its_trial_again(tmp_path):
    command = (*SEARCH, "search.n_trials=3", "training.epochs=60", "training.batch_size=8")
    process = start(tmp_path, *command)
    wait_for(lambda: (tmp_path / "optuna.db").exists() and under_way(tmp_path) == 1, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert states(tmp_path)[-1] == "RUNNING"
    lost = trials(tmp_path)[-1]

    again = start(tmp_path, *command)
    out, error = again.communicate(timeout=120)
    assert again.returncode == 0, out + error
    assert "3 of 3 trials: 3 finished" in out
    found = trials(tmp_path)
    assert found[lost.number].state == TrialState.FAIL
    assert [trial.params for trial in found if trial.state == TrialState.COMPLETE].count(lost.params) == 1
    assert len(found) == 4


@pytest.mark.long
def test_ctrl_c_leaves_no_trial_running(tmp_path):
    process = start(tmp_path, *SEARCH, *TWO, "search.n_trials=8", "training.epochs=200")
    wait_for(lambda: (tmp_path / "optuna.db").exists() and under_way(tmp_path) == 2, process)
    begun = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 2
    assert time.monotonic() - begun < 20
    assert "RUNNING" not in states(tmp_path)
    assert {run.info.status for run in runs(tmp_path)} == {"KILLED"}


@pytest.mark.long
def test_a_worker_that_dies_takes_no_other_trial_with_it(kdsweep: Command, moody):
    space = ("+student.model.mood=fine,slow,deadly", "hydra/sweeper/sampler=grid")
    done = kdsweep(*MOODY, *TWO, *space, "search.n_trials=3", "search.max_failure_rate=0.4")
    assert "3 of 3 trials: 2 finished, 1 failed" in done.stdout
    (failed,) = [trial for trial in trials(moody) if "kdsweep.error" in trial.user_attrs]
    assert failed.params == {"+student.model.mood": "deadly"}
    assert "killed twice" in failed.user_attrs["kdsweep.error"]


@pytest.mark.long
def test_no_worker_waits_for_anothers_trial(kdsweep: Command, moody):
    """With batches of two, one other trial at most would begin while a slow one runs."""
    space = ("+student.model.mood=slow,calm,glad,keen", "seed=1,2", "hydra/sweeper/sampler=grid")
    kdsweep(*MOODY, *TWO, *space, "search.n_trials=8")
    found = trials(moody)
    assert [trial.state for trial in found] == [TrialState.COMPLETE] * 8
    assert len({str(trial.params) for trial in found}) == 8
    meanwhile = [
        [each for each in found if slow.datetime_start < each.datetime_start < slow.datetime_complete]
        for slow in found
        if slow.params["+student.model.mood"] == "slow"
    ]
    assert max(map(len, meanwhile)) >= 2


@pytest.mark.long
def test_a_pareto_search_weighs_accuracy_against_flops(kdsweep: Command, tmp_path):
    done = kdsweep("-m", "search=pareto", "search.n_trials=5", "baseline=false", "training.epochs=2")
    found = trials(tmp_path)
    front = [
        trial.number
        for trial in found
        if not any(
            other.values[0] >= trial.values[0]
            and other.values[1] <= trial.values[1]
            and other.values != trial.values
            for other in found
        )
    ]
    folder = newest(tmp_path)
    assert {file.stem for file in (folder / "experiment").iterdir()} == {
        f"pareto_{number}" for number in front
    } or ({file.stem for file in (folder / "experiment").iterdir()} == {"best"} and len(front) == 1)
    assert (folder / "search" / "front.png").exists()
    assert done.stdout.count("experiment=") == len(front)


@pytest.mark.long
def test_a_search_over_chains(kdsweep: Command, tmp_path):
    kdsweep("-m", "search=chain", "search.n_trials=2", "baseline=false", *TINY)
    assert {each["chain_length"] for each in params(tmp_path)} <= {1, 2, 3, 4}


@pytest.mark.long
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("-m", "search=temperature_alpha", "search.pruner=best"),
            "search.pruner=best: allowed: none, median",
        ),
        (("-m", "search=temperature_alpha", "search.n_trials=abc"), "search.n_trials=abc: must be a whole"),
        (("-m", "search=optuna", "plan=true"), "nothing to search"),
        (
            ("-m", "search=temperature_alpha", "temperature=interval(64.0,1.0)"),
            "temperature=interval(64.0,1.0): ",
        ),
        (("search=temperature_alpha",), "search=temperature_alpha: needs -m"),
        (("-m", "search=temperature_alpha", "alpha=interval(0,2)"), "alpha=2"),
        (("-m", "search=temperature_alpha", "objective=test/accuracy"), "objective"),
    ],
)
def test_mistakes_are_told_before_the_sweep_begins(kdsweep: Command, tmp_path, arguments, message):
    done = kdsweep(*arguments, *TINY, "search.seed=1" if "-m" in arguments else "seed=1", status=1)
    assert message in done.stderr, done.stderr
    assert len(done.stderr.splitlines()) <= 2
    assert not (tmp_path / "multirun").exists()
    assert not (tmp_path / "mlflow.db").exists()


def test_each_trial_has_a_seed_of_its_own():
    recipe = {"_target_": "optuna.samplers.RandomSampler", "seed": 3}

    def first(number: int) -> float:
        study = optuna.create_study(sampler=make_sampler(recipe, None, number))
        return study.ask().suggest_float("x", 0, 1)

    assert first(0) == first(0) != first(1)
    grid = make_sampler(
        {"_target_": "optuna.samplers.GridSampler", "_partial_": True, "seed": 0}, {"x": [1, 2]}, 0
    )
    assert isinstance(grid, optuna.samplers.GridSampler)


@pytest.fixture
def search(tmp_path) -> Search:
    optuna.create_study(study_name="mine", storage=f"sqlite:///{tmp_path}/optuna.db")
    return Search("mine", f"sqlite:///{tmp_path}/optuna.db", "none", "sweep", tmp_path, 2, 0.0)


def terms_of(search: Search, sampler: str = "optuna.samplers.TPESampler") -> Terms:
    space = {"x": FloatDistribution(0, 1), "y": FloatDistribution(1, 64, log=True)}
    recipe = {"_target_": sampler, "seed": 0, "n_startup_trials": 2}
    if sampler.endswith("QMCSampler"):
        del recipe["n_startup_trials"]
    return Terms(space, {}, [], recipe, None, ["val/accuracy"], ["minimize"], search)


def begun(search: Search, study: optuna.Study) -> optuna.Trial:
    """A trial that a process has signed and left."""
    trial, alive = study.ask({"x": FloatDistribution(0, 1)}), Alive(search.locks, "trial")
    trial.set_user_attr("kdsweep.alive", alive.text)
    trial.set_user_attr("kdsweep.sweep", "another")
    alive.end()
    return trial


def test_a_trial_whose_process_died_is_tried_again_once(search):
    study = search.open()
    first = begun(search, study)
    search.give_up_dead(study)
    assert [trial.state.name for trial in study.trials] == ["FAIL", "WAITING"]
    assert search.wants_more(study)
    again = begun(search, study)
    assert again.params == first.params
    search.give_up_dead(study)
    assert [trial.state.name for trial in study.trials] == ["FAIL", "FAIL"]
    assert "killed twice" in study.trials[1].user_attrs["kdsweep.error"]
    assert not search.wants_more(study)  # one has failed, and none may


def test_a_trial_that_died_before_it_was_signed_is_tried_again(search):
    study = search.open()
    study.ask()
    search.give_up_dead(study)
    assert [trial.state.name for trial in study.trials] == ["FAIL", "WAITING"]


def test_a_living_trial_is_left_alone(search):
    study = search.open()
    trial, alive = study.ask(), Alive(search.locks, "trial")
    trial.set_user_attr("kdsweep.alive", alive.text)
    trial.set_user_attr("kdsweep.sweep", "another")
    search.give_up_dead(study)
    search.give_up_own(study, blame=False)
    assert [trial.state.name for trial in study.trials] == ["RUNNING"]
    alive.end()


@pytest.mark.parametrize("sampler", ["optuna.samplers.TPESampler", "optuna.samplers.QMCSampler"])
def test_an_interrupted_study_has_the_trials_of_a_whole_one(search, sampler):
    """Params and what came of them, though a trial is lost each time that two more are done."""
    search = dataclasses.replace(search, n_trials=7)
    optuna.create_study(study_name="cut", storage=search.storage)
    parent = Alive(search.locks, "search")

    def params(study: str, lost: tuple[int, ...]) -> list[dict[str, float]]:
        own = dataclasses.replace(search, study=study)
        opened = own.open()
        worker = Worker(terms_of(own, sampler), None, None, parent.text)
        while begun := worker._next(opened):
            trial, _, alive = begun
            if trial.number in lost:
                own.give_up(opened, opened.trials[trial.number])
            else:
                opened.tell(trial, trial.params["x"] ** 2 + trial.params["y"])
            alive.end()
        return [trial.params for trial in counted(opened)]

    whole = params("mine", ())
    assert len(whole) == 7
    assert params("cut", (1, 4)) == whole


@pytest.mark.parametrize("ended", [AskedToLeave("its time is up"), KeyboardInterrupt()])
def test_a_trial_whose_worker_must_leave_is_tried_again(search, monkeypatch, ended):
    study = search.open()
    worker = Worker(terms_of(search), None, None, "")
    trial = study.ask(worker.terms.space)

    def leave(*job: object) -> None:
        raise ended

    monkeypatch.setattr(Worker, "_job", leave)
    with pytest.raises(type(ended)):
        worker._run(study, trial, [])
    assert [each.state.name for each in study.trials] == ["FAIL", "WAITING"]
    assert study.trials[1].params == trial.params
    assert not failures(study)


def test_lines_of_trials_that_end_elsewhere(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("kdsweep.sweeps.search.progress.SECONDS_BETWEEN_LOOKS", 0.01)

    def leave(number: int, folder: str) -> None:
        (tmp_path / folder).mkdir(parents=True)
        JobResult(number, {"alpha": number / 10}, options=invented.OPTIONS, error="pruned").save(
            tmp_path / folder
        )

    leave(0, "0")
    with trial_lines(tmp_path, 3):
        leave(1, "1")
        deadline, shown = time.monotonic() + 30, ""
        while not shown and time.monotonic() < deadline:
            shown = capsys.readouterr().out
        assert shown.splitlines() == ["[2/3] α=0.1  pruned"]
        leave(0, "workers/0")
        leave(2, "2")
    assert capsys.readouterr().out.splitlines() == ["[3/3] α=0.2  pruned"]


def test_workers_end_with_their_command(search):
    alive = Alive(search.locks, "search")
    worker = Worker(terms_of(search), None, None, alive.text)
    study = search.open()
    assert worker._next(study) is not None
    alive.end()
    assert worker._next(study) is None


@pytest.mark.long
def test_best_yaml_needs_no_file_of_the_users(kdsweep: Command, tmp_path):
    for group, text in {
        "student/own": "name: own\nmodel:\n  _target_: kdsweep.networks.zoo.mlp.MLP\n  hidden: [12]\n",
        "experiment/mine": "# @package _global_\ndefaults:\n  - override /student: own\nseed: 3\n",
        "extra/fast": "# @package _global_\ntraining:\n  epochs: 1\n",
    }.items():
        file = tmp_path / "my_conf" / f"{group}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    first = (
        "--config-dir", "my_conf", "experiment=mine", "+extra=fast", "~teacher.model.conv_dropout",
        "temperature=interval(1.0,9.0)", "dataset.train_limit=200", "hydra.sweep.dir=one sweep",
    )  # fmt: skip
    kdsweep("-m", "search=optuna", "search.n_trials=1", *first)
    assert kdsweep("--config-dir", "one sweep", "experiment=best").stdout.count("reused") == 2 * 3

    second = (
        "--config-dir",
        "one sweep",
        "experiment=best",
        "alpha=interval(0.0,1.0)",
        "hydra.sweep.dir=two",
    )
    kdsweep("-m", "search=optuna", "search.n_trials=1", *second)
    assert kdsweep("--config-dir", "two", "experiment=best").stdout.count("reused") == 2 * 3


def under_way(folder: Path) -> int:
    """How many trials are training their student."""
    try:
        running = [trial for trial in trials(folder) if trial.state == TrialState.RUNNING]
    except Exception:  # the study is being made
        return 0
    return sum(bool(trial.intermediate_values) for trial in running)


def wait_for(condition, process) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
