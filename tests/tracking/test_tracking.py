"""MLflow runs tell the truth, whatever ends them, and losing MLflow loses no training."""

import json
import logging
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from helpers import LONG, TINY, Command, begin, epochs_done, start
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import OperationalError

from kdsweep.config import Tracking
from kdsweep.errors import KdsweepError, TrainingError
from kdsweep.results.events import EpochEnded, StageFinished
from kdsweep.store.store import Store
from kdsweep.tracking import LOCK_TAG, Run, Tracker, runs_of_store


def state(tracker: Tracker, run: Run):
    return tracker.client.get_run(run.id)


@pytest.mark.parametrize(
    ("ending", "status"),
    [(None, "FINISHED"), (TrainingError("no longer finite"), "FAILED"), (KeyboardInterrupt(), "KILLED")],
)
def test_the_state_of_a_run_is_true(tracker, ending, status):
    run = begin(tracker)
    assert state(tracker, run).info.status == "RUNNING"
    if ending is None:
        with run:
            pass
    else:
        with pytest.raises(type(ending)), run:
            raise ending
    stored = state(tracker, run)
    assert stored.info.status == status
    assert stored.data.tags.get("kdsweep.error") == ("no longer finite" if status == "FAILED" else None)


def test_epochs_are_logged_once_by_role(tracker):
    history = [{"val/accuracy": 0.5, "train/loss": 2.0}, {"val/accuracy": 0.75, "train/loss": 1.0}]
    with begin(tracker) as run:
        run.show(EpochEnded("student", 2, 2, history[1], 0.1))  # its first epoch came before a kill
        run.show(StageFinished("student", "key", False, 1.0, history, 2))
        run.show(StageFinished("teacher", "key", True, 1.0, history, 1))
    for name in ("val/accuracy", "teacher/val/accuracy"):
        points = tracker.client.get_metric_history(run.id, name)
        assert sorted((point.step, point.value) for point in points) == [(1, 0.5), (2, 0.75)]


def test_losing_mlflow_is_said_once_and_made_up_for(tracker, monkeypatch, caplog):
    original = tracker.client.log_batch
    with begin(tracker) as run, caplog.at_level(logging.WARNING):
        monkeypatch.setattr(
            tracker.client, "log_batch", lambda *a, **k: (_ for _ in ()).throw(OSError("gone"))
        )
        for epoch in range(1, 4):
            run.metric("val/accuracy", 0.1 * epoch, epoch)
            run.flush()
        assert caplog.text.count("MLflow does not answer, the job continues without it: gone") == 1
        monkeypatch.setattr(tracker.client, "log_batch", original)
    assert len(tracker.client.get_metric_history(run.id, "val/accuracy")) == 3
    assert state(tracker, run).info.status == "FINISHED"


def throwing(error: Exception) -> Callable[..., None]:
    def throw(*given: object, **options: object) -> None:
        raise error

    return throw


@pytest.mark.parametrize("call", ["log_batch", "set_terminated"])
def test_a_mistake_of_our_own_is_no_loss_of_mlflow(tracker, monkeypatch, caplog, call):
    run = begin(tracker)
    with monkeypatch.context() as broken:
        broken.setattr(tracker.client, call, throwing(TypeError("ours")))
        run.metric("val/accuracy", 0.5)
        with pytest.raises(TypeError, match="ours"):
            run.end("FINISHED")
    assert "MLflow is lost" not in caplog.text
    run.end("FINISHED")


def test_a_mistake_of_our_own_comes_through_wherever_mlflow_is_asked(tracker, monkeypatch):
    for ask in (tracker.close_dead_runs, lambda: tracker.kept(["key"]), lambda: begin(tracker)):
        with monkeypatch.context() as broken:
            broken.setattr(tracker.client, "search_runs", throwing(TypeError("ours")))
            broken.setattr(tracker.client, "create_run", throwing(TypeError("ours")))
            with pytest.raises(TypeError, match="ours"):
                ask()
    monkeypatch.setattr("mlflow.MlflowClient.search_experiments", throwing(TypeError("ours")))
    with pytest.raises(TypeError, match="ours"):
        list(runs_of_store(tracker.uri))


@pytest.mark.parametrize(
    "error",
    [
        MlflowException("gone"),
        requests.ConnectionError("gone"),
        OperationalError("SELECT", {}, Exception("gone")),
        OSError("gone"),
        json.JSONDecodeError("gone", "<html>", 0),
    ],
)
def test_what_a_lost_mlflow_raises_is_a_loss(tracker, monkeypatch, error):
    monkeypatch.setattr(tracker.client, "search_runs", throwing(error))
    with pytest.raises(KdsweepError, match=r"MLflow does not answer: .*gone"):
        tracker.close_dead_runs()


def die(run: Run) -> Path:
    """As a killed process: its lock is free, and still there."""
    lock = Path(run._alive.file)
    run._alive._lock.release()
    lock.touch()
    return lock


def test_only_dead_runs_are_closed(tracker):
    living, dead, without_store, foreign = (begin(tracker) for _ in range(4))
    die(dead)
    die(without_store).unlink()
    tracker.client.set_tag(foreign.id, LOCK_TAG, "another-machine:/store/locks/run.lock")
    tracker.close_dead_runs()
    statuses = [state(tracker, run).info.status for run in (living, dead, without_store, foreign)]
    assert statuses == ["RUNNING", "KILLED", "KILLED", "RUNNING"]
    living.end("FINISHED")
    foreign.end("FINISHED")


def test_a_sweep_closes_its_own_runs_on_other_machines(tracker):
    parent, other = begin(tracker), begin(tracker)
    child, foreign = (Run(tracker, "job", tags={"mlflow.parentRunId": run.id}) for run in (parent, other))
    for run in (child, foreign):
        tracker.client.set_tag(run.id, LOCK_TAG, "another-machine:/store/locks/run.lock")
    parent.close_dead_siblings()
    statuses = [state(tracker, run).info.status for run in (parent, child, other, foreign)]
    assert statuses == ["RUNNING", "KILLED", "RUNNING", "RUNNING"]
    for run in (parent, other):
        run.end("FINISHED")


def test_a_run_that_could_not_tell_its_end_is_closed_truly(tracker, monkeypatch):
    with monkeypatch.context() as lost:
        lost.setattr(tracker.client, "set_terminated", lambda *a, **k: (_ for _ in ()).throw(OSError("gone")))
        with begin(tracker) as run:
            pass
    assert state(tracker, run).info.status == "RUNNING"
    tracker.close_dead_runs()
    assert state(tracker, run).info.status == "FINISHED"


@pytest.mark.parametrize("half", [b"", b"FINI", b"\xff\xfe", b"RUNNING"])
def test_an_end_that_was_half_told_leaves_no_run_running(tracker, half):
    """Its process was killed while it wrote, or the disk was full."""
    run = begin(tracker)
    die(run).with_suffix(".status").write_bytes(half)
    tracker.close_dead_runs()
    assert state(tracker, run).info.status == "KILLED"
    assert not list(tracker.locks.glob("run-*"))


@pytest.mark.long
def test_a_run_that_ends_meanwhile_keeps_its_end(tracker, monkeypatch):
    run = begin(tracker)
    search = tracker.client.search_runs

    def search_then_end(*arguments, **options):
        found = search(*arguments, **options)
        run.end("FINISHED")
        return found

    monkeypatch.setattr(tracker.client, "search_runs", search_then_end)
    tracker.close_dead_runs()
    assert state(tracker, run).info.status == "FINISHED"


def test_params_that_are_refused_leave_no_run_and_no_lock(tracker, monkeypatch):
    monkeypatch.setattr(tracker.client, "log_batch", lambda *a, **k: (_ for _ in ()).throw(OSError("no")))
    with pytest.raises(KdsweepError):
        begin(tracker)
    (run,) = tracker.client.search_runs([tracker.experiment_id])
    assert run.info.status == "FAILED"
    assert not list(tracker.locks.glob("run-*"))


def test_dead_runs_of_a_server_that_is_lost_are_told_in_a_line(tracker, monkeypatch):
    monkeypatch.setattr(tracker.client, "search_runs", lambda *a, **k: (_ for _ in ()).throw(OSError("gone")))
    with pytest.raises(KdsweepError, match="MLflow does not answer: gone"):
        tracker.close_dead_runs()
    run = begin(tracker)
    run.close_dead_siblings()
    run.end("FINISHED")
    assert state(tracker, run).info.status == "FINISHED"


def test_without_mlflow_a_run_does_nothing():
    with Run(None) as run:
        run.metric("val/accuracy", 1.0)
        run.tag(name="value")
        run.flush()
    assert run.id == ""


def test_a_deleted_experiment_comes_back(tracker, tmp_path):
    tracker.client.delete_experiment(tracker.experiment_id)
    again = Tracker(Tracking(uri=tracker.uri, experiment="test"), Store(tmp_path / "store"))
    assert again.experiment_id == tracker.experiment_id


def test_a_database_that_is_none_is_told(tmp_path):
    (tmp_path / "mlflow.db").write_text("no database")
    with pytest.raises(KdsweepError, match=r"tracking\.uri=sqlite:.*MLflow does not answer"):
        Tracker(Tracking(uri=f"sqlite:///{tmp_path}/mlflow.db", experiment="test"), Store(tmp_path / "store"))


@pytest.mark.slow
def test_a_server_takes_a_sweep_and_may_be_lost_in_training(kdsweep: Command, tmp_path, server):
    from mlflow import MlflowClient

    uri, stop = server
    kdsweep("-m", "seed=0,1", "training.epochs=1", "baseline=false", f"tracking.uri={uri}")
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("kdsweep")
    runs = client.search_runs([experiment.experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED"] * 3
    assert {each.path for each in client.list_artifacts(runs[0].info.run_id)} >= {"weights.safetensors"}

    process = start(tmp_path, *LONG, "training.epochs=400", f"tracking.uri={uri}")
    while epochs_done(tmp_path) < 1:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    stop()
    shown, errors = process.communicate()
    assert process.returncode == 0, errors
    assert re.search(r"student +trained", shown)
    assert "MLflow does not answer, the job continues without it" in errors
    assert "Traceback" not in errors


@pytest.mark.slow
@pytest.mark.timeout(900)  # eight processes import torch
@pytest.mark.parametrize("backend", ["sqlite", "server"])
def test_eight_jobs_at_once_lose_no_run_and_no_metric(kdsweep: Command, tmp_path, request, backend):
    from mlflow import MlflowClient

    uri = request.getfixturevalue("server")[0] if backend == "server" else f"sqlite:///{tmp_path}/mlflow.db"
    done = kdsweep("-m", "hardware=cpu_parallel", "hardware.jobs=8", "temperature=range(1,9)", *TINY,
                   "training.epochs=12", f"tracking.uri={uri}")  # fmt: skip
    assert done.stderr == ""
    assert "View run" not in done.stdout
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("kdsweep")
    runs = client.search_runs([experiment.experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED"] * 9
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert {run.data.params["temperature"] for run in children} == {f"{t}.0" for t in range(1, 9)}
    for run in children:
        for role in ("", "teacher/", "scratch/"):
            assert f"{role}test/accuracy" in run.data.metrics
            for name in ("val/accuracy", "val/cross_entropy", "train/loss", "train/accuracy"):
                points = client.get_metric_history(run.info.run_id, f"{role}{name}")
                assert sorted(point.step for point in points) == list(range(1, 13)), (role, name)
        artifacts = {each.path for each in client.list_artifacts(run.info.run_id)}
        assert {"weights.safetensors", "config.yaml", "confusion.png", "teacher"} <= artifacts


def test_system_metrics_are_logged_where_mlflow_is_told_to(tracker, monkeypatch):
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    with begin(tracker) as run:
        deadline = time.monotonic() + 60
        while "system/cpu_utilization_percentage" not in state(tracker, run).data.metrics:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert state(tracker, run).info.status == "FINISHED"
