"""What sweeps left, read from MLflow: whole, under way, damaged, not to be fetched."""

import json
from pathlib import Path

import invented
import pytest
from helpers import composed
from mlflow import MlflowClient

from kdsweep.cli.records import read
from kdsweep.config import Tracking
from kdsweep.config.parse import parse
from kdsweep.errors import KdsweepError
from kdsweep.results import names
from kdsweep.results.describe import describe
from kdsweep.results.result import RESULT, SWEEP, JobResult, SweepInfo
from kdsweep.store.store import Store
from kdsweep.tracking import ROLE_TAG, Run, Tracker


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture
def tracker(uri: str, tmp_path: Path, monkeypatch) -> Tracker:
    monkeypatch.chdir(tmp_path)
    return Tracker(Tracking(uri=uri, experiment="mine"), Store(tmp_path / "store"))


def sweep(tracker: Tracker, folder: Path, told: bool = True) -> Run:
    """A sweep of three jobs: one that finished, one that failed before it left a word, one under way."""
    folder.mkdir()
    parent = Run(tracker, "T", tags={ROLE_TAG: "sweep"})
    if told:
        parent.artifact(SweepInfo(parent.id, ["temperature"], 3, command="kdsweep -m …").save(folder))
    for number in range(3):
        swept = {"temperature": float(number + 1)}
        tags = {"mlflow.parentRunId": parent.id, ROLE_TAG: "job", "kdsweep.job": str(number)}
        run = Run(tracker, f"T={number}", tags={**tags, "kdsweep.swept": json.dumps(swept)})
        if number == 0:
            run.artifact(JobResult(number, swept, run_id=run.id).save(folder))
        if number < 2:
            run.end("FINISHED" if number == 0 else "FAILED", "no luck" if number else None)
    parent.end("FINISHED")
    return parent


def test_a_job_under_way_has_no_result_yet(tracker, uri, tmp_path):
    parent = sweep(tracker, tmp_path / "out")
    for named in ("mine", tracker.experiment_id, parent.id):
        (record,) = read(named, uri)
        assert [(each.swept["temperature"], each.error) for each in record.results] == [
            (1.0, None),
            (2.0, "no luck"),
        ]
        assert record.sweep.command == "kdsweep -m …"


def test_a_job_knows_the_sweep_it_is_of(tracker, uri, tmp_path):
    sweep(tracker, tmp_path / "out")
    (whole,) = read("mine", uri)
    (record,) = read(whole.results[0].run_id, uri)
    assert (record.sweep.jobs, record.sweep.command, len(record.results)) == (1, "kdsweep -m …", 1)


def test_an_experiment_has_its_jobs_alone_that_finished_too(tracker, uri, tmp_path):
    parent = sweep(tracker, tmp_path / "out")
    finished, failed = (Run(tracker, "kd mlp", tags={ROLE_TAG: "job"}) for _ in range(2))
    finished.artifact(SweepInfo(finished.id, [], 1).save(tmp_path))
    finished.artifact(JobResult(0, {}, run_id=finished.id).save(tmp_path))
    finished.end("FINISHED")
    failed.end("FAILED", "no luck")
    assert [record.sweep.run_id for record in read("mine", uri)] == [parent.id, finished.id]


def test_a_folder_may_have_an_experiments_name(tracker, uri, tmp_path):
    sweep(tracker, tmp_path / "out")
    (tmp_path / "mine").mkdir()
    assert len(read("mine", uri)) == 1
    (tmp_path / "empty").mkdir()
    with pytest.raises(KdsweepError, match=r"empty: has no sweep\.json"):
        read("empty", uri)


def test_a_sweep_that_cannot_be_read_hides_no_other(tracker, uri, tmp_path, caplog):
    killed = sweep(tracker, tmp_path / "killed", told=False)
    good = sweep(tracker, tmp_path / "good")
    damaged = sweep(tracker, tmp_path / "damaged")
    (finished,) = [each for each in read(damaged.id, uri)[0].results if not each.error]
    file = tmp_path / RESULT
    file.write_text("{")
    MlflowClient(uri).log_artifact(finished.run_id, str(file))
    assert [record.sweep.run_id for record in read("mine", uri)] == [good.id]
    assert caplog.text.count("skipped a sweep") == 2
    with pytest.raises(KdsweepError, match=f"{killed.id} has no {SWEEP}: it was killed at its start"):
        read(killed.id, uri)
    with pytest.raises(KdsweepError, match=f"its {RESULT} cannot be read"):
        read(damaged.id, uri)


def test_what_is_there_but_cannot_be_fetched_is_no_failed_job(tracker, uri, tmp_path, monkeypatch):
    parent = sweep(tracker, tmp_path / "out")
    fetch = MlflowClient.download_artifacts

    def hiccup(client, run_id, path, there):
        if path == RESULT:
            raise ConnectionError("read timed out")
        return fetch(client, run_id, path, there)

    monkeypatch.setattr(MlflowClient, "download_artifacts", hiccup)
    with pytest.raises(KdsweepError, match="MLflow does not answer: read timed out"):
        read(parent.id, uri)


@pytest.mark.parametrize("named", ["12345", "nothing", "a" * 32])
def test_what_is_not_there_is_told(tracker, uri, named):
    with pytest.raises(KdsweepError, match=f"{named}: no sweep of that name"):
        read(named, uri)


DAMAGE = {
    "null": lambda values: None,
    "a list": lambda values: [],
    "another program's": lambda values: {"answer": 42},
    "no networks": lambda values: {**values, "networks": {}},
    "no student": lambda values: {**values, "networks": {"teacher": values["networks"]["teacher"]}},
    "a network of null": lambda values: {**values, "networks": {**values["networks"], "student": None}},
    "no test": lambda values: _with_student(values, test=None),
    "NaN": lambda values: _with_student(values, val={"accuracy": float("nan"), "cross_entropy": 1.0}),
    "another key": lambda values: _with_student(values, weights="/a/store/key/weights.safetensors"),
    "a text for a number": lambda values: {**values, "seconds": "2"},
    "another data set": lambda values: {**values, "dataset": {**values["dataset"], "images": 3}},
    "no bits": lambda values: _with_student(
        values, test={**values["networks"]["student"]["test"], "right": "x"}
    ),
}


def _with_student(values: dict, **changes: object) -> dict:
    student = {**values["networks"]["student"], **changes}
    return {**values, "networks": {**values["networks"], "student": student}}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_result_is_refused_by_its_name(tmp_path, damage):
    record = invented.sweep({"seed": (0, 1)}, epochs=2)
    record.sweep.save(tmp_path)
    for result in record.results:
        (tmp_path / str(result.number)).mkdir()
        result.save(tmp_path / str(result.number))
    (whole,) = read(str(tmp_path), "sqlite:///none.db")
    assert whole.results == record.results
    file = tmp_path / "1" / "result.json"
    file.write_text(json.dumps(damage(json.loads(file.read_text()))))
    with pytest.raises(KdsweepError, match=r"cannot be read .*(result\.json|job 1)") as told:
        read(str(tmp_path), "sqlite:///none.db")
    assert len(str(told.value).splitlines()) == 1


LATENCY = '{"run_id": "x", "keys": [], "jobs": 1, "latency": {"ms": null}}'


def test_a_damaged_sweep_is_refused_by_its_name(tmp_path):
    for text in ("null", "{}", "[1", '{"run_id": 1, "keys": [], "jobs": "x"}', LATENCY):
        (tmp_path / "sweep.json").write_text(text)
        with pytest.raises(KdsweepError, match=r"sweep\.json"):
            read(str(tmp_path), "sqlite:///none.db")


def test_a_job_leaves_its_own_config_without_passwords_and_no_path_of_the_store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = parse(composed("tracking.uri=http://me:secret@host:5000", "temperature=2", "method=kd"))
    result = JobResult(0, {})
    describe(result, config)
    text = result.save(tmp_path).read_text()
    assert "secret" not in text and "me:***@host" in text and str(tmp_path) not in text
    again = JobResult.load(tmp_path)
    assert (again.config["temperature"], again.recipe["temperature"]) == (2.0, 2.0)
    assert names.named({"temperature": 8}, again.options) == "T=8"
    describe(result, parse(composed("method=scratch")))
    assert result.recipe.keys() == {"dataset", "student", "method"}, "it uses no temperature"
