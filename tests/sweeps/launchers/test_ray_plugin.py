"""What the Ray launcher does without starting Ray: it says what is missing, gives turns, carries results."""

import json
import logging
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest
from helpers import Command
from hydra.conf import HydraConf, SweepDir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from kdsweep.config import Tracking
from kdsweep.errors import KdsweepError
from kdsweep.results.result import JobResult, PlannedJob, SweepInfo
from kdsweep.store.store import Store
from kdsweep.sweeps.launchers.ray import RayLauncher, _fitting
from kdsweep.sweeps.launchers.ray_worker import NodeTask, read
from kdsweep.sweeps.launchers.turns import turns
from kdsweep.tracking import Run, Tracker

SWEEP = ("-m", "temperature=1,2")


@pytest.mark.long
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["hardware=gpus"], "hardware=gpus: no GPU found; take hardware=cpu_parallel"),
        (["hardware=gpus", "hardware.device=cuda:1"], "hardware=gpus: no GPU found"),
        (["hardware=gpus", "hardware.device=cpu", "hardware.gpus_per_job=2"], "less than or equal to 1"),
        (["hardware=gpus", "hardware.address=auto"], "hardware.address: no such key"),
        (["hardware=cpu", "hardware.gpus_per_job=1"], "hardware.gpus_per_job: no such key"),
        (["hardware=ray"], ":9: Connection refused; start one"),
        (["hardware=ray", "hardware.address=ray://127.0.0.1:9"], "no Ray cluster answers: Conn"),
        (["hardware=ray", "hardware.address=here"], "=here: allowed: auto, HOST:6379, ray://HOST:10001"),
    ],
)  # fmt: skip
def test_what_is_missing_or_wrong_is_said_before_anything_starts(kdsweep: Command, tmp_path, arguments, said):
    begin, nowhere = time.monotonic(), {"CUDA_VISIBLE_DEVICES": "", "RAY_ADDRESS": "127.0.0.1:9"}
    done = kdsweep(*SWEEP, *arguments, status=1, **nowhere)
    assert said in done.stderr
    assert "Traceback" not in done.stderr and "jobs over" not in done.stdout
    assert time.monotonic() - begin < 60
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.parametrize(
    ("init", "remote", "jobs", "room"),
    [
        ((4, 64), (1, 1), -1, 4),
        ((4, 64), (0.25, 1), -1, 16),
        ((4, 64), (0.25, 1), 3, 3),
        ((4, 8), (0.25, 2), -1, 4),  # as many as the cores allow
        ((1, 8), (0, 2), -1, 4),
        ((0, 8), (1, 1), -1, None),
    ],
)
def test_a_machines_room_is_known_before_ray_starts(init, remote, jobs, room):
    gpus, cpus = ({"num_gpus": gpus, "num_cpus": cpus} for gpus, cpus in (init, remote))
    launcher = {"ray": {"init": gpus, "remote": cpus}}
    config = OmegaConf.create({"hardware": {"jobs": jobs}, "hydra": {"launcher": launcher}})
    assert RayLauncher.room(config) == room
    config.hardware.kind = "ray"  # of a cluster only its nodes know
    assert RayLauncher.room(config) is None


def test_stores_of_their_own_need_a_server(kdsweep: Command):
    options = ("hardware=gpus", "+hardware.shared_store=false", "hardware.device=cpu")
    said = kdsweep(*SWEEP, *options, status=1).stderr
    assert "tracking.uri=sqlite:///mlflow.db: must be a server with hardware.shared_store=false" in said


def test_without_the_extra(kdsweep: Command, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['ray'] = None")
    without = {"PYTHONPATH": str(tmp_path)}
    for name in ("gpus", "ray"):
        said = kdsweep(*SWEEP, f"hardware={name}", status=1, **without).stderr
        assert said == f"kdsweep: hardware={name} needs Ray: pip install 'kdsweep[ray]'\n"
    assert kdsweep("--cfg", "job", **without).stderr == ""


def test_turns_go_by_the_stages_that_the_sweep_planned(tmp_path, monkeypatch):
    """MLflow is told of one stage; jobs that the sweep did not plan wait for none."""
    monkeypatch.chdir(tmp_path)
    tracking = Tracking(uri="sqlite:///mlflow.db", experiment="turns")
    run = Run(Tracker(tracking, Store(tmp_path / "store").made()), "a job")
    (tmp_path / "entry").mkdir()
    run.keep("kept", tmp_path / "entry")
    run.end("FINISHED")
    planned = [PlannedJob([f"alpha={i}"], ["kept", stage, str(i)]) for i, stage in enumerate("aab")]
    config = {"tracking": tracking.model_dump(), "store": "store"}
    graph = turns(SweepInfo("run", ["alpha"], 3, config=config, planned=planned), [*_lines(3), ["seed=9"]])
    assert [graph.missing(job) for job in range(4)] == [["a", "0"], ["a", "1"], ["b", "2"], []]
    graph.begin(graph.missing(0))
    assert [graph.may_begin(job) for job in (1, 2, 3)] == [False, True, True]


def test_turns_without_mlflow_take_all_as_untrained(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    config = {"tracking": {"uri": "http://127.0.0.1:9", "experiment": "turns"}, "store": "store"}
    graph = turns(SweepInfo("run", [], 1, config=config, planned=[PlannedJob(["alpha=0"], ["a"])]), _lines(1))
    assert graph.missing(0) == ["a"]
    assert "MLflow does not answer" in caplog.text


def _lines(jobs: int) -> list[list[str]]:
    return [[f"alpha={job}"] for job in range(jobs)]


def test_what_is_taken_of_ray_is_as_it_was(monkeypatch, capsys):
    from ray._private import worker

    from kdsweep.sweeps.launchers.ray_private import address_of_this_machine, quiet_deaths

    monkeypatch.setenv("RAY_ADDRESS", "10.9.8.7:6379")
    assert address_of_this_machine() == "10.9.8.7:6379"
    monkeypatch.setattr(worker, "_worker_logs_enabled", True)
    death = {"lines": ["a worker died"], "pid": "raylet", "is_err": False}
    worker.print_to_stdstream(death, ignore_prefix=False)
    assert "a worker died" in capsys.readouterr().out
    quiet_deaths()
    worker.print_to_stdstream({**death, "lines": ["another died"]}, ignore_prefix=False)
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    ("gpus", "cpus", "node", "jobs"),
    [
        (1, 1, {"CPU": 8, "GPU": 2}, 2),
        (0.25, 1, {"CPU": 16, "GPU": 2}, 8),
        (0.3, 1, {"CPU": 16, "GPU": 2}, 6),
        (0.25, 4, {"CPU": 8, "GPU": 2}, 2),
        (1, 1, {"CPU": 8}, 0),
        (0, 2, {"CPU": 7}, 3),
    ],
)
def test_as_many_jobs_as_fit(gpus, cpus, node, jobs):
    assert _fitting(OmegaConf.create({"num_gpus": gpus, "num_cpus": cpus}), node) == jobs


class Mail:
    """A queue as Ray's, in this process."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, ...]] = []

    def put(self, message: tuple[str, ...]) -> None:
        self.messages.append(message)

    def qsize(self) -> int:
        return len(self.messages)

    def get_nowait_batch(self, count: int) -> list[tuple[str, ...]]:
        taken, self.messages = self.messages[:count], self.messages[count:]
        return taken


@pytest.fixture
def node(tmp_path: Path, monkeypatch):
    """The folder of the sweep on a node, in which a job is about to run."""
    folder = tmp_path / "node" / "sweep"
    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(OmegaConf.create({"hydra": HydraConf(sweep=SweepDir(str(folder)))}))
    monkeypatch.chdir(tmp_path)
    yield folder
    HydraConfig.instance().cfg = before


def test_results_and_lines_come_from_nodes_without_a_shared_disk(tmp_path, node, capsys, monkeypatch):
    sweep, mail = SweepInfo("run", ["temperature"], 2), Mail()
    (node / "7").mkdir(parents=True)
    JobResult(7, {}).save(node / "7")  # of another job, which has sent it

    def job(composed):
        assert SweepInfo.load(node) == sweep
        print("[1/2] T=4\npart", end="")
        print(" of a line")
        logging.getLogger("kdsweep").warning("careful")
        JobResult(0, {"temperature": 4}, error="bad").save(_made(node / "0"))
        raise KdsweepError("bad")

    screen = logging.StreamHandler(sys.stderr)
    monkeypatch.setattr(logging.getLogger(), "handlers", [screen])
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "before")
    task = NodeTask(
        job, mail, tmp_path / "here", {"MLFLOW_TRACKING_TOKEN": "told"}, json.dumps(asdict(sweep))
    )
    with pytest.raises(KdsweepError, match="bad"):
        task(OmegaConf.create({}))
    assert Path.cwd() == tmp_path / "here"
    capsys.readouterr()

    parents = tmp_path / "sweep"
    read(mail, parents)
    shown = capsys.readouterr()
    assert shown.out == "[1/2] T=4\npart of a line\n"
    assert shown.err == "careful\n"
    assert [result.error for result in JobResult.load_all(parents)] == ["bad"]


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def test_what_the_sweep_has_is_not_replaced(tmp_path):
    mail = Mail()
    JobResult(0, {}, error="told here").save(_made(tmp_path / "0"))
    mail.put(("file", "0/result.json", "{}"))
    read(mail, tmp_path)
    assert [result.error for result in JobResult.load_all(tmp_path)] == ["told here"]
