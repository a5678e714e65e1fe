"""What a sweep will train, and about how long that takes, by what the store has trained before."""

import heapq
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple

from kdsweep.config import Augment, Hardware
from kdsweep.data.split import UNLABELED
from kdsweep.stage import Stage, digest
from kdsweep.stages.graph import Graph, Links, Node, nodes
from kdsweep.store.store import Store
from kdsweep.store.unfinished import epochs_done

PACE = (
    "batch_size",
    "mixed_precision",
    "trainable",
    "fine_tuning",
)  # what of a recipe sets it, and the optimizer


@dataclass(frozen=True)
class Need:
    """A stage that jobs need; `jobs` are their places in the sweep, the first of which will train it.

    `epochs` are still to be trained, `done` are finished; `pace` is the seconds per epoch, None if the store
    has no figure. `other_threads` marks a pace that was measured with another number of threads.
    """

    role: str
    stage: Stage
    jobs: list[int]
    there: bool
    done: int
    epochs: int
    pace: float | None
    other_threads: bool

    @property
    def seconds(self) -> float | None:
        """The time that the rest of its training takes; None if unknown."""
        return self._seconds(self.epochs)

    @property
    def seconds_from_the_start(self) -> float | None:
        """The time of its whole training; None if unknown."""
        return self._seconds(self.stage.training.total_epochs)

    def _seconds(self, epochs: int) -> float | None:
        return 0.0 if epochs == 0 else None if self.pace is None else self.pace * epochs


class Pace(NamedTuple):
    seconds: float  # per epoch
    taught: bool
    threads: int
    images: int = 0  # of an epoch; 0: not known


def needs(jobs: Sequence[Links], store: Store, hardware: Hardware) -> dict[str, Need]:
    """Each stage of the jobs once, by its key; a job is its stages by role, in the order of training."""
    paces = Paces(store, hardware)
    return {key: _need(node, store, paces) for key, node in nodes(jobs).items()}


def _need(node: Node, store: Store, paces: "Paces") -> Need:
    stage = node.stage
    there = store.find(stage.key) is not None
    done = 0 if there else epochs_done(store.unfinished(stage.key))
    epochs = 0 if there else max(0, stage.training.total_epochs - done)
    pace = paces.of(stage)
    other = pace is not None and pace.threads != paces.threads
    return Need(*node, there, done, epochs, pace.seconds if pace else None, other)


class Paces:
    """Seconds per epoch of the networks in a store, by data, network, recipe and teachers.

    An epoch with unlabelled images takes longer than one without, by their number.
    """

    def __init__(self, store: Store, hardware: Hardware) -> None:
        self.threads = hardware.cpu_threads
        self.known: dict[str, list[Pace]] = {}
        for record in _records(store):
            description, history = record["stage"], record["history"]
            if record["seconds"] > 0:
                taught, threads = bool(description["parents"]), record["made_by"]["threads"]
                pace = Pace(record["seconds"] / len(history), taught, threads, record.get("images", 0))
                self.known.setdefault(_kind(description), []).append(pace)

    def of(self, stage: Stage) -> Pace | None:
        """The median pace of the most similar trainings; None if no such network was trained."""
        alike = [_for_images(pace, stage) for pace in self.known.get(_kind(stage.describe()), [])]
        if not alike:
            return None
        likeness = [
            (pace.threads == self.threads, pace.taught == bool(stage.parents), pace.images == stage.images)
            for pace in alike
        ]
        most = [pace for pace, like in zip(alike, likeness, strict=True) if like == max(likeness)]
        return most[0]._replace(seconds=median(pace.seconds for pace in most))


def _for_images(pace: Pace, stage: Stage) -> Pace:
    if not pace.images or not stage.images:
        return pace
    return pace._replace(seconds=pace.seconds * stage.images / pace.images)


def _records(store: Store) -> Iterator[dict[str, Any]]:
    for file in (file for folder in store.folders for file in folder.glob("*/stage.json")):
        try:
            record = json.loads(file.read_text())
            if record["history"]:
                yield record
        except (OSError, ValueError, KeyError, TypeError):  # damaged: the job that needs it reports it
            continue


def _kind(description: Mapping[str, Any]) -> str:
    """The digest of what sets the pace of a training. With augmentation teachers may run too."""
    other = ("split_seed", UNLABELED)
    data = {key: value for key, value in description["data"].items() if key not in other}
    recipe = {key: value for key, value in description["training"].items() if key in PACE}
    optimizer = description["training"].get("optimizer", {}).get("_target_")
    random = Augment.model_validate(data["augment"]).random
    return digest(
        {
            "data": data,
            "model": description["model"],
            "source": description["source"],
            "recipe": recipe | {"optimizer": optimizer},
            "teachers at work": len(description["parents"]) if random else 0,
        }
    )


def makespan(jobs: Sequence[Sequence[Need]], at_once: int) -> float:
    """Seconds until all jobs have their stages, with so many jobs at a time, each working as `job.py` does.

    A job trains any stage that may begin, and waits only if there is none. A stage of unknown duration
    counts as 0.
    """
    times = {need.stage.key: need.seconds or 0.0 for job in jobs for need in job}
    trained = {need.stage.key for job in jobs for need in job if need.there}
    graph = Graph.of([{need.stage.key: need.stage for need in job} for job in jobs], trained)
    until: dict[str, float] = {}  # what is under way
    events = [(0.0, job) for job in range(min(at_once, len(jobs)))]  # when each job looks for work
    queue, end = iter(range(len(events), len(jobs))), 0.0
    while events:
        now, job = heapq.heappop(events)
        for key in [key for key, at in until.items() if at <= now]:
            graph.end([key])
            del until[key]
        if not graph.missing(job):
            end = now
            following = next(queue, None)
            if following is not None:
                heapq.heappush(events, (now, following))
        elif ready := graph.ready(job):
            graph.begin(ready[:1])
            until[ready[0]] = now + times[ready[0]]
            heapq.heappush(events, (until[ready[0]], job))
        else:
            heapq.heappush(events, (min(until[key] for key in graph.missing(job) if key in until), job))
    return end
