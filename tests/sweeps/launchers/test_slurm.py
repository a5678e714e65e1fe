"""hardware=slurm on a real Slurm of one node with two cores, started for these tests."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import optuna
import pytest
from dying import NETWORK, results
from helpers import LONG, TINY, Command, artifacts, epochs_done, runs, start

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]

CLUSTER = Path(__file__).parent / "slurm" / "cluster.sh"
SLURM = ("-m", "hardware=slurm", "hardware.cpus_per_job=1")


@pytest.fixture(scope="module", autouse=True)
def cluster(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slurm")
    started = subprocess.run([CLUSTER, "start", folder], capture_output=True, text=True)
    assert started.returncode == 0, started.stderr
    with pytest.MonkeyPatch.context() as changed:
        changed.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        yield
        subprocess.run([CLUSTER, "stop", folder], check=True)


def slurm(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def array_of(process: subprocess.Popen[str]) -> str:
    """The number of the Slurm job that a sweep has queued."""
    for line in process.stdout:
        if told := re.match(r"Slurm's job (\d+):", line):
            return told[1]
    raise AssertionError(process.communicate())


def wait_for_epochs(process: subprocess.Popen[str], folder: Path, epochs: int) -> None:
    deadline = time.monotonic() + 120
    while epochs_done(folder) < epochs:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, slurm("squeue", "--states=all")
        time.sleep(0.02)


def test_slurm_runs_the_jobs_of_a_sweep(kdsweep: Command, tmp_path):
    done = kdsweep(*SLURM, "temperature=1,4", *TINY)
    assert done.stderr == ""
    assert len(re.findall(r"^\[[12]/2\] T=[14]  val", done.stdout, re.M)) == 2
    parent, *children = runs(tmp_path)
    assert [run.info.status for run in (parent, *children)] == ["FINISHED"] * 3
    assert {child.data.tags["mlflow.parentRunId"] for child in children} == {parent.info.run_id}
    assert "sweep.txt" in artifacts(tmp_path, parent)
    assert len(list(tmp_path.glob("kdsweep-store/*/stage.json"))) == 4
    array = re.search(r"Slurm's job (\d+)", done.stdout)[1]
    states = slurm("squeue", "--array", "--states=all", "--noheader", "--format=%T", f"--jobs={array}")
    assert states.split() == ["COMPLETED"] * 2


def test_jobs_that_die_fail_or_are_cancelled_leave_the_others(network):
    (network / "do-9").write_text("die")
    (network / "do-10").write_text("raise")
    process = start(network, *SLURM, "student.model.width=9,10,11,8", "hardware.jobs=1", *NETWORK)
    slurm("scancel", f"{array_of(process)}_2")
    shown, errors = process.communicate()
    assert process.returncode == 1
    assert "Traceback" not in errors
    for told in (
        r"job 0 \(student.model.width=9\) failed: its Slurm job \d+_0 has ended, FAILED; see multirun/",
        r"job 1 \(student.model.width=10\) failed: ValueError: of the network's own",
        r"job 2 \(student.model.width=11\) failed: its Slurm job \d+_2 has ended, no longer in the queue$",
    ):
        assert re.search(told, errors, re.M), errors
    assert re.search(r"^\[4/4\] student.model.width=8  val", shown, re.M)
    assert [bool(result["error"]) for result in results(network)] == [True, True, True, False]
    statuses = [run.info.status for run in runs(network)]
    assert sorted(statuses) == ["FAILED", "FAILED", "FINISHED", "KILLED"]


@pytest.mark.parametrize("again", [True, False])
def test_a_job_asked_to_leave_goes_on_from_its_checkpoint(tmp_path, again):
    """By the signal of preemption and of the time's end, which Slurm sends as this does."""
    process = start(tmp_path, *SLURM, "seed=0", "hardware.minutes=3",
                    f"hydra.launcher.max_num_timeout={int(again)}", *LONG, "training.epochs=150")  # fmt: skip
    job = array_of(process)
    wait_for_epochs(process, tmp_path, 3)
    slurm("scancel", "--signal=USR2", job)
    if not again:
        errors = process.communicate()[1]
        assert process.returncode == 1
        assert "failed: it hit its time limit too often (hardware.minutes, " in errors
        assert [run.info.status for run in runs(tmp_path)] == ["FAILED"] * 2
        return
    while "Restarts=1" not in slurm("scontrol", "show", "job", job):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    done = epochs_done(tmp_path)
    assert 3 <= done < 150
    seen = []
    while process.poll() is None:
        seen.append(epochs_done(tmp_path))
        time.sleep(0.02)
    shown, errors = process.communicate()
    assert process.returncode == 0, errors
    assert all(epochs >= done for epochs in seen if epochs), "it began anew"
    assert len(results(tmp_path)[0]["networks"]["student"]["history"]) == 150
    assert "[1/1]" in shown
    assert [run.info.status for run in runs(tmp_path)] == ["FINISHED", "KILLED", "FINISHED"]


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_sweep_cancels_its_jobs(tmp_path, sign):
    process = start(tmp_path, *SLURM, "seed=0,1", "hardware.jobs=1", *LONG, "training.epochs=1000")
    array = array_of(process)
    wait_for_epochs(process, tmp_path, 3)
    begin = time.monotonic()
    os.killpg(process.pid, sign) if sign == signal.SIGINT else process.send_signal(sign)
    errors = process.communicate()[1]
    assert time.monotonic() - begin < 30
    assert process.returncode == 2, errors
    assert "Traceback" not in errors
    assert slurm("squeue", "--noheader", f"--jobs={array}") == ""
    assert [run.info.status for run in runs(tmp_path)] == ["KILLED"] * 2


def test_what_slurm_refuses_is_told(kdsweep: Command, tmp_path):
    told = kdsweep(*SLURM, "hardware.partition=nope", "seed=0,1", *TINY, status=1).stderr
    assert "kdsweep: hardware=slurm: sbatch: error: Batch job submission failed: Invalid partition" in told
    assert "Traceback" not in told
    assert [run.info.status for run in runs(tmp_path)] == ["FAILED"]


def test_a_trial_whose_time_is_up_too_often_is_tried_again(tmp_path):
    search = ("search=temperature_alpha", "search.n_trials=1", "hydra.sweeper.n_jobs=1", "search.study=mine")
    process = start(tmp_path, *SLURM, *search, "hydra.launcher.max_num_timeout=0", "hardware.minutes=3",
                    *LONG, "training.epochs=150")  # fmt: skip
    job = array_of(process)
    wait_for_epochs(process, tmp_path, 3)
    slurm("scancel", "--signal=USR2", job)
    shown, errors = process.communicate()
    assert process.returncode == 1
    assert "kdsweep: it hit its time limit too often" in errors
    assert re.search(r"^\[1/1\] T=\S+ α=\S+  failed", shown, re.M)
    trials = optuna.load_study(study_name="mine", storage=f"sqlite:///{tmp_path}/optuna.db").trials
    assert [trial.state.name for trial in trials] == ["FAIL", "WAITING"]
    assert "kdsweep.error" not in trials[0].user_attrs
