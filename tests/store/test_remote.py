"""Stages travel through MLflow between machines that share no store."""

import logging
import shutil

import pytest
from helpers import begin

from kdsweep.store.origin import Origin
from kdsweep.store.seal import SUMS
from kdsweep.store.store import Store
from kdsweep.tracking import Run

MADE = Origin("made", {})


def write(text: str):
    return lambda folder: (folder / "file").write_text(text)


def never(folder) -> None:
    raise AssertionError("made again")


def test_a_stage_is_fetched_from_the_run_that_kept_it(tracker, tmp_path):
    with begin(tracker) as first:
        entry, there = Store(tmp_path / "a").obtain("key", write("made"), remote=first, origin=MADE)
        assert not there
    with begin(tracker) as second:
        fetched, there = Store(tmp_path / "b").obtain("key", never, remote=second, origin=MADE)
    assert there
    assert {file.name: file.read_bytes() for file in fetched.iterdir()} == {
        file.name: file.read_bytes() for file in entry.iterdir()
    }
    assert tracker.run_that_kept("key") == first.id
    assert tracker.run_that_kept("another") is None


def test_what_comes_damaged_is_made_anew(tracker, tmp_path, caplog):
    with begin(tracker) as run:
        entry, _ = Store(tmp_path / "a").obtain("key", write("made"), remote=run, origin=MADE)
        (entry / "file").write_text("bent")
        run.keep("key", entry)
        with caplog.at_level(logging.WARNING):
            again, there = Store(tmp_path / "b").obtain("key", write("anew"), remote=run, origin=MADE)
    assert not there
    assert (again / "file").read_text() == "anew"
    assert "is damaged (checksum of file); made again" in caplog.text


def test_what_comes_without_checksums_is_made_anew(tracker, tmp_path):
    with begin(tracker) as run:
        entry, _ = Store(tmp_path / "a").obtain("other", write("made"), origin=MADE)
        (entry / SUMS).unlink()
        run.keep("key", entry)
        again, there = Store(tmp_path / "b").obtain("key", write("anew"), remote=run, origin=MADE)
    assert not there
    assert (again / "file").read_text() == "anew"


def test_artifacts_that_are_gone_are_made_anew(tracker, tmp_path, caplog):
    with begin(tracker) as run:
        Store(tmp_path / "a").obtain("key", write("made"), remote=run, origin=MADE)
        artifacts = tracker.client.get_run(run.id).info.artifact_uri
        shutil.rmtree(artifacts.removeprefix("file://"))
        again, there = Store(tmp_path / "b").obtain("key", write("anew"), remote=run, origin=MADE)
    assert not there
    assert (again / "file").read_text() == "anew"
    assert "could not be fetched from MLflow and is trained here" in caplog.text


@pytest.mark.parametrize("lost", ["search_experiments", "log_artifacts"])
def test_without_mlflow_it_is_made(tracker, tmp_path, monkeypatch, caplog, lost):
    with begin(tracker) as run, monkeypatch.context() as patch:
        patch.setattr(tracker.client, lost, lambda *a, **k: (_ for _ in ()).throw(OSError("gone")))
        entry, there = Store(tmp_path / "a").obtain("key", write("made"), remote=run, origin=MADE)
    assert not there
    assert (entry / "file").read_text() == "made"
    assert "gone" in caplog.text
    if lost == "log_artifacts":
        assert tracker.run_that_kept("key") is None
    assert not Store(tmp_path / "b").obtain("key", write("made"), remote=Run(None), origin=MADE)[1]
