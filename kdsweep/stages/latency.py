"""How long networks take for one image: measured together, while no job is running, or not at all.

A measurement beside other work is discarded: a ratio of two disturbed times is no property of the networks.
The next command that needs it tries again.
"""

import logging
import os
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from kdsweep.config import is_file
from kdsweep.errors import KdsweepError, explain
from kdsweep.report.tables import busy
from kdsweep.results.left import as_json, read_left
from kdsweep.results.result import Latency
from kdsweep.stage import FORMAT, digest
from kdsweep.stages.figures import priced
from kdsweep.stages.prepare import Job
from kdsweep.store.origin import Origin
from kdsweep.store.store import Store

log = logging.getLogger(__name__)

BUSY = 0.25  # share of the cores used by other programs, beyond which nothing is measured
SECONDS_TO_LOOK = 0.1  # at other programs, before torch is imported
GROUP = 2**30  # bytes of networks that are built at a time
FILE = "latency.json"
ATTEMPTS, SECONDS_BETWEEN_ATTEMPTS = 5, 2.0  # to measure what an objective needs


def measure(jobs: Sequence[Job]) -> Latency | None:
    """The latency of all networks of jobs that have not begun; None if it cannot be measured."""
    networks, models = {}, {}
    for job in jobs:
        for stage in job.plan.links().values():
            if is_file(stage.model):
                continue
            description = priced(stage, job.dataset)
            key = digest(description)
            networks[key], models[key] = description, stage.model
    return latency(networks, models, jobs[0].store)


def measure_when_quiet(job: Job) -> dict[str, float]:
    """The latencies of a job's networks. Raises KdsweepError if the machine does not become quiet."""
    for _ in range(ATTEMPTS):
        taken = measure([job])
        if taken and taken.ms:
            return taken.ms
        time.sleep(SECONDS_BETWEEN_ATTEMPTS)
    raise KdsweepError(
        f"objective=cost/latency_ms: {busy(taken)}; run it on a quiet machine, or take cost/flops"
    )


def latency(
    networks: Mapping[str, Mapping[str, Any]], models: Mapping[str, Mapping[str, Any]], store: Store
) -> Latency | None:
    """The latency of `networks`, described as by `figures.priced` and built from `models`, both by digest;
    None if that failed.

    The load is the average number of cores that other programs used meanwhile. The store has what was
    measured for the same set of networks on such a machine before.
    """
    cores = os.cpu_count() or 1
    machine = f"{_processor()}, {cores} cores"  # a machine of the same kind is as fast
    description = {
        "latency": [networks[key] for key in sorted(networks)],
        "machine": machine,
        "format": FORMAT,
    }
    key = digest(description)
    if entry := store.find(key):
        return read_left(entry / FILE, Latency)
    before = Load()
    with before.watched():
        time.sleep(SECONDS_TO_LOOK)
    measured: dict[str, float] = {}
    load = before.cores
    if load <= BUSY * cores:
        try:
            measured, load = _measure(networks, models)
        except Exception as error:  # networks run any code, and no result depends on their latency
            log.warning("latency is not measured: %s", explain(error))
            return None
    quiet = load <= BUSY * cores
    taken = Latency(measured if quiet else {}, round(load, 2), cores, machine)
    if quiet:
        made = Origin("latency", description)
        store.obtain(key, lambda folder: _write(folder / FILE, taken), origin=made)
    return taken


def _measure(
    networks: Mapping[str, Mapping[str, Any]], models: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, float], float]:
    """Milliseconds by digest, and the load meanwhile; networks run in turns, as many as fit into memory."""
    from kdsweep.networks.cost import Built, Sized, built, latencies

    load, found, group, size = Load(), [], list[Built](), 0
    for number, (key, each) in enumerate(networks.items(), start=1):
        group.append(built(Sized(models[key], each["classes"], each["shape"])))
        size += sum(parameter.nbytes for parameter in group[-1][0].parameters())
        if size > GROUP or number == len(networks):
            with load.watched():
                found += latencies(group)
            group, size = [], 0
    return dict(zip(networks, found, strict=True)), load.cores


class Load:
    """How many cores are busy with anything but this thread, on average over the watched times."""

    def __init__(self) -> None:
        self.busy, self.seconds = 0.0, 0.0
        self.known = True

    @contextmanager
    def watched(self) -> Iterator[None]:
        start, own, before = time.perf_counter(), time.thread_time(), _busy_seconds()
        yield
        own, after = time.thread_time() - own, _busy_seconds()
        self.seconds += time.perf_counter() - start
        if before is None or after is None:
            self.known = False
        else:
            self.busy += max(0.0, after - before - own)

    @property
    def cores(self) -> float:
        return (
            self.busy / self.seconds if self.known else os.getloadavg()[0]
        )  # the average of a minute is all there is


def _busy_seconds() -> float | None:
    """How long all cores together have worked since the machine started; None if it keeps no count."""
    with suppress(OSError, ValueError):
        user, nice, system, _, _, *more = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:])
        return (user + nice + system + sum(more[:3])) / os.sysconf("SC_CLK_TCK")
    return None


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _write(file: Path, taken: Latency) -> None:
    file.write_text(as_json(taken))
