"""hardware=gpus, Ray on this machine, and hardware=ray, a cluster of Ray: a launcher that copes with workers
that die, with Ctrl-C, and with nodes that have disks of their own.

Hydra imports this module at every start, with or without Ray: keep it light.
"""

import importlib.util
import logging
import math
import os
import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, read_write

from kdsweep.errors import ConfigError, KdsweepError
from kdsweep.results.result import RESULT, SWEEP, SweepInfo
from kdsweep.sweeps.hydra_private import came_to, failed
from kdsweep.sweeps.launchers.base import RESUME, Launched, ProcessDied, SweepLauncher, shares_store

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.util.queue import Queue

SECONDS_BETWEEN_LOOKS = 0.2
SECONDS_TO_ANSWER = 10.0  # for a cluster
SECONDS_TO_END = 5.0  # for an interrupted job
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_task_oom_retries": "1",  # of a job that runs out of memory; the default is many
}


@dataclass
class RayOptions:
    """`init` are options of ray.init, `remote` those of each job, as ray.remote takes them."""

    init: dict[str, Any] = field(default_factory=dict)
    remote: dict[str, Any] = field(default_factory=dict)


@dataclass
class RayLauncherConf:
    _target_: str = "kdsweep.sweeps.launchers.ray.RayLauncher"
    ray: RayOptions = field(default_factory=RayOptions)


ConfigStore.instance().store(
    "kdsweep_ray", RayLauncherConf, group="hydra/launcher", provider="kdsweep", replace=True
)


class RayLauncher(SweepLauncher):
    """Every job is awaited, whatever happens to the others.

    Ray retries a job whose worker dies, from its checkpoint; a job whose retries die has failed.
    """

    def __init__(self, ray: DictConfig) -> None:
        self.ray_cfg = ray

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    @staticmethod
    def check(config: DictConfig) -> None:
        """Raise ConfigError if Ray, a GPU or the cluster is missing."""
        kind = config.hardware.get("kind")
        if importlib.util.find_spec("ray") is None:
            raise ConfigError(f"hardware={kind} needs Ray: pip install 'kdsweep[ray]'")
        if kind == "ray":
            _reach(str(config.hardware.address))
        elif str(config.hardware.device).startswith("cuda"):
            import torch

            if not torch.cuda.is_available():
                raise ConfigError("hardware=gpus: no GPU found; take hardware=cpu_parallel, or hardware=auto")

    @staticmethod
    def room(config: DictConfig) -> int | None:
        """How many jobs this machine has room for; None for a cluster, and without room for any."""
        if config.hardware.get("kind") == "ray":
            return None
        options, jobs = config.hydra.launcher.ray, config.hardware.jobs
        gpus, cpus = options.init.num_gpus, options.init.num_cpus
        if gpus is None:
            import torch

            gpus = torch.cuda.device_count()
        from kdsweep.config import cores

        fitting = _fitting(options.remote, {"GPU": gpus, "CPU": cores() if cpus is None else cpus})
        return (fitting if jobs == -1 else min(fitting, jobs)) or None

    def slots(self) -> int:
        """How many jobs run at once. Starts Ray if needed. Raises ConfigError if no node has room for one."""
        self._start()
        import ray

        options = self.config.hydra.launcher.ray.remote
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        fitting = sum(_fitting(options, resources) for resources in nodes)
        if not fitting:
            gpus, cpus = (sum(node.get(kind, 0) for node in nodes) for kind in ("GPU", "CPU"))
            raise ConfigError(
                f"hardware.gpus_per_job={self.config.hardware.gpus_per_job}, "
                f"hardware.cpus_per_job={self.config.hardware.cpus_per_job}: no node has room for a job; "
                f"Ray sees {gpus:g} GPUs and {cpus:g} cores on {len(nodes)} nodes"
            )
        return int(min(fitting, self._limit()))

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        return self._await(job_overrides, initial_job_idx, once=False)

    def launch_once(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Each job's return; a job whose worker dies is FAILED by ProcessDied; no job waits for another."""
        return self._await(job_overrides, initial_job_idx, once=True)

    def _limit(self) -> float:
        jobs = self.config.hardware.jobs
        return math.inf if jobs == -1 else jobs

    def _start(self) -> None:
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        logging.getLogger("ray").setLevel(logging.CRITICAL)
        import ray

        from kdsweep.sweeps.launchers.ray_private import quiet_deaths

        if ray.is_initialized():
            return
        handler = signal.getsignal(signal.SIGTERM)  # Ray replaces it by one that exits at once
        try:
            options: Any = OmegaConf.to_container(self.ray_cfg.init, resolve=True)
            ray.init(**options)
            quiet_deaths()
        except (RuntimeError, OSError, ValueError, TypeError, ray.exceptions.RayError) as error:
            where = self.ray_cfg.init.address
            raise ConfigError(f"Ray ({where}) cannot be used: {str(error).splitlines()[0]}") from error
        finally:
            signal.signal(signal.SIGTERM, handler)

    def _await(self, job_overrides: Sequence[Sequence[str]], first: int, *, once: bool) -> list[JobReturn]:
        """Run the jobs, as many at a time as there is room for, and await them all."""
        import ray

        from kdsweep.sweeps.launchers.ray_worker import mailbox, read
        from kdsweep.sweeps.launchers.turns import turns

        setup_globals()
        self.slots()
        folder = Path(str(self.config.hydra.sweep.dir)).absolute()
        graph = turns(None if once or shares_store(self.config) else SweepInfo.load(folder), job_overrides)
        retries = 0 if once else int(self.config.hydra.launcher.ray.remote.max_retries)
        returns: dict[int, JobReturn] = {}
        waiting = list(range(len(job_overrides)))
        running: dict[ObjectRef[Any], tuple[int, Launched]] = {}
        mail = mailbox()
        try:
            while waiting or running:
                free = len(running) < self._limit()
                ready = next((i for i in waiting if graph.may_begin(i)), None) if free else None
                if ready is not None:
                    waiting.remove(ready)
                    graph.begin(graph.missing(ready))
                    job = Launched(self, first + ready, job_overrides[ready])
                    running[self._begin(job, folder, mail, retries)] = ready, job
                done, _ = ray.wait(list(running), timeout=SECONDS_BETWEEN_LOOKS if ready is None else 0)
                read(mail, folder)
                for ref in done:
                    i, job = running.pop(ref)
                    returns[i] = _returned(job, ref, 1 + retries)
                    error = came_to(returns[i])
                    if not once and isinstance(error, KdsweepError) and not (job.folder / RESULT).exists():
                        returns[i] = job.fail(error)  # a process that died could not write its result
                    graph.end(graph.missing(i), returns[i].status == JobStatus.COMPLETED)
        except BaseException:  # Ctrl-C too: jobs on other nodes would run on; it is raised again
            try:
                _interrupt(list(running))
                read(mail, folder)
            finally:
                ray.shutdown()
            raise
        return [returns[i] for i in range(len(job_overrides))]

    def _begin(self, job: Launched, folder: Path, mail: "Queue", retries: int) -> "ObjectRef[Any]":
        import ray

        from kdsweep.sweeps.launchers.ray_worker import NodeTask, run_on_node

        with read_write(job.config.hydra.sweep):
            job.config.hydra.sweep.dir = str(folder)  # a worker has another working directory
        sweep = None if shares_store(job.config) else (folder / SWEEP).read_text()
        environment = {name: value for name, value in os.environ.items() if name.startswith("MLFLOW_")}
        task = NodeTask(self.task_function, mail, Path.cwd(), environment, sweep)
        options: Any = OmegaConf.to_container(job.config.hydra.launcher.ray.remote, resolve=True)
        remote = ray.remote(**{**options, "max_retries": retries})(run_on_node)
        ref: ObjectRef[Any] = remote.remote(self.hydra_context, job.config, task, Singleton.get_state())
        return ref


def _fitting(options: DictConfig, resources: dict[str, float]) -> int:
    """How many jobs a node has room for; fractions of a GPU must fit into one GPU."""
    gpus, share = int(resources.get("GPU", 0)), options.num_gpus
    by_gpu = gpus * int(1 / share + 1e-6) if share else math.inf
    return int(min(by_gpu, resources.get("CPU", 0) // options.num_cpus))


def _returned(job: Launched, ref: "ObjectRef[Any]", attempts: int) -> JobReturn:
    import ray
    from ray.exceptions import NodeDiedError, OutOfMemoryError, WorkerCrashedError

    try:
        returned: JobReturn = ray.get(ref)
    except (WorkerCrashedError, OutOfMemoryError, NodeDiedError) as error:
        died = f"its process died, {attempts} times" if attempts > 1 else "its process died"
        reason = "out of memory" if isinstance(error, OutOfMemoryError) else "probably out of memory"
        return failed(job.overrides, ProcessDied(f"{died}; {reason}. {RESUME}"))
    except Exception as error:  # Ray raises anything that the job's process raised and could not send
        cause = getattr(error, "cause", None) or error
        last = str(cause).strip().splitlines()[-1:]
        return failed(job.overrides, KdsweepError(": ".join(["in Ray", type(cause).__name__, *last])))
    return returned


def _interrupt(running: "list[ObjectRef[Any]]") -> None:
    """Raise KeyboardInterrupt in every job, so that its run ends as KILLED; then kill those that remain."""
    import ray

    for ref in running:
        ray.cancel(ref)
    if running:
        _, stubborn = ray.wait(running, num_returns=len(running), timeout=SECONDS_TO_END)
        for ref in stubborn:
            ray.cancel(ref, force=True)


def _reach(address: str) -> None:
    """Raise ConfigError unless the address answers; Ray itself would try for minutes."""
    where = address
    try:
        if address == "auto":
            from kdsweep.sweeps.launchers.ray_private import address_of_this_machine

            where = address_of_this_machine() or address
        host, _, port = where.removeprefix("ray://").rpartition(":")
        if port.isdecimal():  # the schema reports any other address
            socket.create_connection((host, int(port)), SECONDS_TO_ANSWER).close()
    except OSError as error:
        at = f" at {where}" if where != address else ""
        reason = error.strerror or str(error).split(". ")[0]
        raise ConfigError(
            f"hardware.address={address}: no Ray cluster answers{at}: {reason}; start one by "
            "`ray start --head`, further nodes by `ray start --address=HOST:6379`"
        ) from error
