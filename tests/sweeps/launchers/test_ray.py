"""hardware=gpus and hardware=ray: two nodes on this machine, giving out GPUs that are not there; networks
compute on the CPU."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import COMMAND, Command, environment, runs, sweep_folder

pytestmark = pytest.mark.ray

# A network that tells where it is trained, and what it needs: company, or its death.
PROBE = """
import json, os, signal, time
from pathlib import Path

from torch import nn


class Odd(Exception):  # cannot be unpickled
    def __init__(self, one, two):
        super().__init__(f"{one} {two}")


class Probe(nn.Module):
    def __init__(self, num_classes, in_channels, image_size, company=1, pause=0.0, dies="never"):
        super().__init__()
        pixels = in_channels * image_size[0] * image_size[1]
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(pixels, num_classes))
        self.company, self.pause, self.dies, self.batches, self.begin = company, pause, dies, 0, time.time()

    def forward(self, images):
        if self.training and "RAY_JOB_ID" in os.environ:
            self.batches += 1
            self.tell()
            time.sleep(self.pause)
        return self.net(images)

    def tell(self):
        import ray

        here = {"pid": os.getpid(), "gpus": os.environ.get("CUDA_VISIBLE_DEVICES"), "begin": self.begin,
                "node": ray.get_runtime_context().get_node_id(), "batches": self.batches, "end": time.time()}
        folder = Path("told")
        folder.mkdir(exist_ok=True)
        (folder / f"{os.getpid()}.new").write_text(json.dumps(here))
        (folder / f"{os.getpid()}.new").replace(folder / f"{os.getpid()}.json")
        while self.batches == 1 and len(list(folder.glob("*.json"))) < self.company:
            assert time.time() < self.begin + 100, "no company"
            time.sleep(0.05)
        if self.dies == "oddly":
            raise Odd("not", "today")
        if self.dies == "once" and self.batches == 21 and not Path("died").exists():
            Path("died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if self.dies == "always" and not Path("cured").exists():
            os.kill(os.getpid(), signal.SIGKILL)
"""
STUDENT = """# --config-dir conf student=probe
name: probe
model:
  _target_: probe.Probe
  company: 1
  pause: 0.0
  dies: never
"""
JOBS = ("--config-dir", "conf", "-m", "student=probe", "method=scratch", "hardware.device=cpu",
        "dataset.train_limit=200", "dataset.test_limit=100", "training.batch_size=16")  # fmt: skip
BATCHES = 10  # of 160 images, per epoch
LINE = re.compile(r"^\[\d/\d\] .* val [\d.]+ %", re.M)


@pytest.fixture
def probe(tmp_path: Path) -> Path:
    (tmp_path / "probe.py").write_text(PROBE)
    (tmp_path / "conf" / "student").mkdir(parents=True)
    (tmp_path / "conf" / "student" / "probe.yaml").write_text(STUDENT)
    return tmp_path


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[str]:
    """The address of two nodes with two cores and a GPU each, each with a disk of its own."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    disks = tmp_path_factory.mktemp("disks")
    node = {"num_cpus": 2, "num_gpus": 1, "object_store_memory": 80_000_000}
    both = Cluster()
    both.add_node(**node, include_dashboard=False, env_vars={"NODE_DISK": str(disks / "a")})
    both.add_node(**node, env_vars={"NODE_DISK": str(disks / "b")})
    yield both.address
    both.shutdown()


def told(folder: Path) -> list[dict]:
    return [json.loads(file.read_text()) for file in folder.glob("told/*.json")]


def most_at_once(records: list[dict]) -> int:
    moments = [record["begin"] for record in records]
    return max(sum(each["begin"] <= moment <= each["end"] for each in records) for moment in moments)


def test_each_job_sees_its_own_gpu_and_the_rest_wait(kdsweep: Command, probe):
    gpus = ("hardware=gpus", "hydra.launcher.ray.init.num_gpus=2", "hydra.launcher.ray.init.num_cpus=4")
    done = kdsweep(
        *JOBS, *gpus, "seed=range(3)", "training.epochs=2", "student.model.company=2", HERE=str(probe)
    )
    assert len(LINE.findall(done.stdout)) == 3
    assert "3 jobs over seed: probe alone, digits\n[" in done.stdout
    assert done.stderr == ""
    records = told(probe)
    assert len(records) == 3  # a process each
    assert {record["gpus"] for record in records} == {"0", "1"}
    for gpu in ("0", "1"):
        assert most_at_once([record for record in records if record["gpus"] == gpu]) == 1
    assert most_at_once(records) == 2
    assert not living(probe)


def test_jobs_spread_over_nodes_and_fractions_pack(kdsweep: Command, probe, cluster):
    ray = ("hardware=ray", f"hardware.address={cluster}", "hardware.gpus_per_job=0.5")
    kdsweep(*JOBS, *ray, "seed=range(5)", "training.epochs=2", "student.model.company=4")
    records = told(probe)
    assert len(records) == 5
    nodes = {record["node"] for record in records}
    assert len(nodes) == 2
    for node in nodes:
        assert most_at_once([record for record in records if record["node"] == node]) == 2
    assert {record["gpus"] for record in records} == {"0"}


def test_a_job_that_dies_goes_on_and_one_that_always_dies_fails_alone(kdsweep: Command, probe, cluster):
    sweep = (*JOBS, "hardware=ray", f"hardware.address={cluster}", "hydra.launcher.ray.remote.max_retries=1",
             "student.model.dies=never,once,always,oddly", "training.epochs=4")  # fmt: skip
    done = kdsweep(*sweep, status=1)
    assert len(LINE.findall(done.stdout)) == 2
    assert re.search(r"job 2 \(student\.model\.dies=always\) failed: its process died", done.stderr)
    assert re.search(r"job 3 \(student\.model\.dies=oddly\) failed: Odd: not today", done.stderr)
    assert "Traceback" not in done.stderr and "raylet" not in done.stdout
    # the one that dies in its third epoch goes on from the second, or the first if its checkpoint took long
    batches = sorted(record["batches"] for record in told(probe))
    second, first = ([died, 2 * BATCHES + 1, 4 * BATCHES] for died in (2 * BATCHES, 3 * BATCHES))
    assert batches in ([1, 1, 1, *second], [1, 1, 1, *sorted(first)])
    results = json.loads((sweep_folder(probe) / "2" / "result.json").read_text())
    assert results["error"].startswith("its process died")
    statuses = sorted(run.info.status for run in runs(probe))
    assert statuses == [*["FAILED"] * 2, *["FINISHED"] * 2, *["KILLED"] * 3]

    (probe / "cured").touch()
    again = kdsweep(*sweep, status=1).stdout
    lines = sorted(line for line in again.splitlines() if line.startswith("["))
    assert [line.endswith("reused") for line in lines] == [True, True, False, False]
    assert re.search(r"\[3/4\] .* trained in", lines[2])


def test_nodes_with_stores_of_their_own_train_a_teacher_once(kdsweep: Command, tmp_path, cluster, server):
    uri, _ = server
    ray = ("hardware=ray", f"hardware.address={cluster}", "hardware.shared_store=false",
           "hardware.device=cpu", "hardware.gpus_per_job=0", "hardware.cpus_per_job=2")  # fmt: skip
    done = kdsweep("-m", *ray, "temperature=1,2,4", "training.epochs=2", "dataset.train_limit=200",
                   "dataset.test_limit=100", "store=${oc.env:NODE_DISK}/store", f"tracking.uri={uri}",
                   NODE_DISK=str(tmp_path / "driver"))  # fmt: skip
    assert len(LINE.findall(done.stdout)) == 3
    results = [json.loads(file.read_text()) for file in sweep_folder(tmp_path).glob("*/result.json")]
    for role in ("teacher", "scratch"):
        assert sorted(result["networks"][role]["reused"] for result in results) == [False, True, True]
    stores = {Path(result["config"]["store"]) / result["networks"]["teacher"]["key"] for result in results}
    assert len(stores) == 2
    assert len({(folder / "weights.safetensors").read_bytes() for folder in stores}) == 1
    assert not list((tmp_path / "driver" / "store").glob("*/weights.safetensors"))


@pytest.mark.parametrize("engine", ["gpus", "ray"])
def test_interrupted_sweeps_leave_no_process_and_no_run(probe, cluster, engine):
    where = (f"hardware.address={cluster}",) if engine == "ray" else ("hydra.launcher.ray.init.num_gpus=2",)
    sweep = (*JOBS, f"hardware={engine}", *where, "seed=range(3)", "training.epochs=400",
             "student.model.pause=0.02", "student.model.company=2")  # fmt: skip
    process = subprocess.Popen(
        [COMMAND, *sweep], cwd=probe, env=environment(HERE=str(probe)),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while len([record for record in told(probe) if record["batches"] > BATCHES]) < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    begin = time.monotonic()
    if engine == "gpus":  # as a terminal does
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGTERM)
    errors = process.communicate(timeout=60)[1]
    assert time.monotonic() - begin < 20
    assert process.returncode == 2, errors
    assert errors == "kdsweep: interrupted; run the same command to resume\n"
    assert {run.info.status for run in runs(probe)} == {"KILLED"}
    assert not living(probe)


def living(folder: Path) -> list[str]:
    """Processes that a test's command started, or that trained for it, after a moment for them to end."""
    for _ in range(50):
        left = [process for process in map(str, told_pids(folder) | inherited(folder)) if not ended(process)]
        if not left:
            break
        time.sleep(0.1)
    return left


def told_pids(folder: Path) -> set[int]:
    return {record["pid"] for record in told(folder)}


def inherited(folder: Path) -> set[int]:
    found = set()
    for file in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"HERE={folder}".encode() in file.read_bytes().split(b"\0"):
                found.add(int(file.parent.name))
        except OSError:
            continue
    return found


def ended(process: str) -> bool:
    try:
        return (Path("/proc") / process / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


ONCE = """
import os, signal, sys

from hydra import initialize_config_module
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode


def task(config):
    if config.seed == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return config.seed


with initialize_config_module("kdsweep.conf"):
    loader = GlobalHydra.instance().config_loader()
    config = loader.load_configuration("config", sys.argv[1:], run_mode=RunMode.MULTIRUN)
    HydraConfig.instance().set_config(config)
    context = HydraContext(config_loader=loader, callbacks=Callbacks(), execution_whitelist="kdsweep.*")
    launcher = Plugins.instance().instantiate_launcher(
        hydra_context=context, task_function=task, config=config
    )
    print(launcher.slots())
    for each in launcher.launch_once([[*sys.argv[1:], f"seed={seed}"] for seed in range(3)], 0):
        print(each.status.name, each._return_value)
"""


def test_a_sweeper_learns_how_many_fit_and_of_each_death(tmp_path, cluster):
    options = ["hardware=ray", f"hardware.address={cluster}", "hardware.gpus_per_job=0.5"]
    command = [sys.executable, "-c", ONCE, *options]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    died = (
        "FAILED its process died; probably out of memory. Run the same command to resume from its checkpoint"
    )
    assert done.stdout.splitlines() == ["4", "COMPLETED 0", died, "COMPLETED 2"], done.stderr
    assert not list(tmp_path.glob("multirun/*/*/*/result.json"))
