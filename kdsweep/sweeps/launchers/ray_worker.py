"""A job in a worker of Ray: it works in the folder of its sweep, and sends its output to the sweep."""

import io
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, run_job, setup_globals
from hydra.types import HydraContext
from omegaconf import DictConfig
from ray.util.queue import Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from kdsweep.errors import KdsweepError
from kdsweep.results.result import RESULT, SWEEP

OUT, ERR, FILE = "out", "err", "file"
ATTEMPTS = 3  # to start the queue, at which Ray failed once


@dataclass(frozen=True)
class NodeTask:
    """A job's task as a worker runs it.

    `here` is the folder in which kdsweep was started, `environment` its variables for the job. If nodes do
    not share a disk, `sweep` is the text of `sweep.json`: it is written into the node's folder, from which
    results are sent.
    """

    task: Callable[[DictConfig], Any]
    mail: Queue
    here: Path
    environment: Mapping[str, str]
    sweep: str | None

    def __call__(self, composed: DictConfig) -> Any:
        os.environ.update(self.environment)
        try:
            self.here.mkdir(parents=True, exist_ok=True)
            os.chdir(self.here)
        except OSError as error:
            reason = f"cannot work in {self.here}: {error.strerror}"
            raise KdsweepError(f"node {os.uname().nodename}: {reason}") from error
        try:
            with _sent(self.mail):
                return self.task(composed) if self.sweep is None else self._apart(composed, self.sweep)
        except KeyboardInterrupt:
            os._exit(1)  # its run has ended, and torch takes seconds to exit

    def _apart(self, composed: DictConfig, sweep: str) -> Any:
        folder = Path(HydraConfig.get().sweep.dir)
        _write(folder / SWEEP, sweep)
        before = _results(folder)
        try:
            return self.task(composed)
        finally:
            for file, _ in _results(folder) - before:
                _send(self.mail, (FILE, str(file.relative_to(folder)), file.read_text()))


def run_on_node(
    context: HydraContext, config: DictConfig, task: NodeTask, state: dict[Any, Any]
) -> JobReturn:
    """Run the job as Hydra does, in a process of Ray's; `state` has the sweep's Hydra singletons."""
    setup_globals()
    Singleton.set_state(state)
    HydraConfig.instance().set_config(config)
    return run_job(
        hydra_context=context,
        task_function=task,
        config=config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )


def mailbox() -> Queue:
    """A queue on the sweep's node for the output of jobs."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    for _ in range(ATTEMPTS):
        queue = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
        try:
            queue.qsize()  # raises unless it runs
            return queue
        except ray.exceptions.RayActorError as error:
            reason = str(error).strip().splitlines()[-1]
    raise KdsweepError(f"Ray does not keep a process for the sweep: {reason}")


def read(mail: Queue, folder: Path) -> None:
    """Print what jobs have sent; write their files into the sweep's `folder` if it lacks them."""
    with suppress(ray.exceptions.RayError):  # its node is lost, and the output with it
        for kind, *content in mail.get_nowait_batch(mail.qsize()):
            if kind == FILE:
                name, text = content
                if not (folder / name).exists():
                    _write(folder / name, text)
            else:
                print(*content, file=sys.stdout if kind == OUT else sys.stderr, flush=True)


class _Lines(io.TextIOBase):
    """A stream that sends its lines to the sweep, which prints them."""

    def __init__(self, mail: Queue, kind: str) -> None:
        self.mail, self.kind, self.begun = mail, kind, ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self.begun = (self.begun + text).split("\n")
        for line in lines:
            _send(self.mail, (self.kind, line))
        return len(text)


@contextmanager
def _sent(mail: Queue) -> Iterator[None]:
    """Send all that is printed or logged to the sweep."""
    handlers = [each for each in logging.getLogger().handlers if isinstance(each, logging.StreamHandler)]
    on_screen = [each for each in handlers if each.stream is sys.stderr]
    with redirect_stdout(_Lines(mail, OUT)), redirect_stderr(_Lines(mail, ERR)) as errors:
        for handler in on_screen:
            handler.setStream(errors)
        yield


def _send(mail: Queue, message: tuple[str, ...]) -> None:
    with suppress(ray.exceptions.RayError):  # the sweep has ended, and the job will end too
        mail.put(message)


def _results(folder: Path) -> set[tuple[Path, int]]:
    return {(file, file.stat().st_mtime_ns) for file in folder.rglob(RESULT)}


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f"{file.name}.{os.getpid()}.new")
    new.write_text(text)
    new.replace(file)
