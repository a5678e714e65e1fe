"""Processes that are killed, interrupted, started twice."""

import json
import signal
import time
from pathlib import Path

import pytest
from helpers import LONG, epochs_done, left_of, runs, start, stop_in_training


def stage(folder: Path) -> tuple[bytes, dict]:
    (file,) = folder.glob("kdsweep-store/*/weights.safetensors")
    return file.read_bytes(), json.loads((file.parent / "stage.json").read_text())


def test_killed_training_goes_on_to_the_same_weights(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    process = start(killed, *LONG)
    stop_in_training(process, killed, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    done = epochs_done(killed)
    assert 1 <= done < 100

    again = start(killed, *LONG)
    seen = []
    while again.poll() is None:
        seen.append(epochs_done(killed))
        time.sleep(0.01)
    assert again.returncode == 0, again.communicate()
    assert all(epochs >= done for epochs in seen if epochs), "it began anew"
    assert start(whole, *LONG).wait() == 0

    (weights, record), (expected, uninterrupted) = stage(killed), stage(whole)
    assert weights == expected
    assert record["history"] == uninterrupted["history"]
    assert not list(killed.glob("kdsweep-store/unfinished/*"))
    first, second = runs(killed)
    assert (first.info.status, second.info.status) == ("KILLED", "FINISHED")


@pytest.mark.long
def test_killed_sweep_trains_only_what_is_missing(tmp_path):
    sweep = ("-m", "seed=range(3)", *LONG)
    process = start(tmp_path, *sweep)
    for line in process.stdout:
        if line.startswith("[1/3]"):
            break
    stop_in_training(process, tmp_path, signal.SIGKILL)
    finished = {file: file.stat().st_mtime_ns for file in tmp_path.glob("kdsweep-store/*/stage.json")}
    assert len(finished) == 1
    again = start(tmp_path, *sweep)
    shown, errors = again.communicate()
    assert again.returncode == 0, errors
    assert [line.split()[-1] == "reused" for line in shown.splitlines() if line.startswith("[")] == [
        True,
        False,
        False,
    ]
    assert all(file.stat().st_mtime_ns == before for file, before in finished.items())
    assert {run.info.status for run in runs(tmp_path)} == {"KILLED", "FINISHED"}


@pytest.mark.long
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("arguments", [(), ("-m", "seed=0,1")])
def test_interrupted_runs_are_killed_not_running(tmp_path, sign, arguments):
    process = start(tmp_path, *arguments, *LONG)
    stop_in_training(process, tmp_path, sign)
    errors = process.communicate()[1]
    assert process.returncode == 2
    assert "interrupted; run the same command to resume" in errors
    assert "Traceback" not in errors
    statuses = [run.info.status for run in runs(tmp_path)]
    assert statuses == ["KILLED"] * (2 if arguments else 1)


@pytest.mark.long
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_parallel_sweeps_leave_no_process_and_no_run(tmp_path, sign):
    process = start(tmp_path, "-m", "hardware=cpu_parallel", "hardware.jobs=2", "seed=0,1", *LONG)
    stop_in_training(process, tmp_path, sign)
    errors = process.communicate()[1]
    assert process.returncode == 2, errors
    assert "Traceback" not in errors
    assert {run.info.status for run in runs(tmp_path)} == {"KILLED"}
    assert not left_of(process)


@pytest.mark.long
def test_two_at_once_train_it_once(tmp_path):
    both = [start(tmp_path, *LONG) for _ in range(2)]
    outputs = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert sorted(("reused" in shown) for shown, _ in outputs) == [False, True]
    assert [run.info.status for run in runs(tmp_path)] == ["FINISHED"] * 2
