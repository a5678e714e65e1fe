"""Whether stages train faster in one pass than one after another: a few updates of both ways tell."""

import logging
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import cycle
from math import isclose
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from kdsweep.data.dataset import Dataset
from kdsweep.data.split import UNLABELED
from kdsweep.training.alone import Alone
from kdsweep.training.member import Data, Member, Task
from kdsweep.training.side_by_side import is_elementwise
from kdsweep.training.stacked import Stacked, unadvised

log = logging.getLogger(__name__)

UPDATES, SECONDS = 6, 0.5  # that are timed at most, the first apart
WEIGHTS = (
    2**28
)  # bytes of all networks of a pass; gradients and an optimizer's memory are three times as much
CLOSE = 1e-3  # the relative difference of losses that rounding explains


def faster_together(tasks: Sequence[Task], dataset: Dataset, device: torch.device, timed: bool = True) -> int:
    """How many of the tasks, from the first on, to train in one pass: 1 if they do not fit into one or, where
    it is `timed`, if one after another is as fast.

    Nothing is trained by it, and what the tasks have left unfinished is not touched.
    """
    with (
        tempfile.TemporaryDirectory(prefix="kdsweep-") as folder,
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        unadvised(),
    ):
        aside = [
            replace(task, unfinished=Path(folder) / str(number), on_epoch=lambda *event: None)
            for number, task in enumerate(tasks)
        ]
        try:
            return _faster(aside, Data(dataset, device, UNLABELED in tasks[0].stage.data), timed)
        except Exception as error:  # what vmap does not know, memory, the user's own code
            log.info("no pass of several stages: %s", error)
            return 1


def _faster(tasks: Sequence[Task], data: Data, timed: bool) -> int:
    first = _begun(tasks[0], data)
    size = sum(each.nbytes for each in first.network.parameters())
    count = min(len(tasks), WEIGHTS // max(size, 1))
    if count < 2 or not _fits(first):
        return 1
    seconds, (loss,) = _tried(Alone([first]), data)
    stacked = Stacked([_begun(task, data) for task in tasks[:count]])
    before = torch.get_rng_state()
    together, losses = _tried(stacked, data)
    if len(stacked.stages) > 1 and not torch.equal(before, torch.get_rng_state()):
        return 1  # something draws that is not known to draw for each seed
    ((last,),) = _tried(Alone([_begun(tasks[count - 1], data)]), data, 0)[1:]
    expected = {tasks[0].stage.key: loss, tasks[count - 1].stage.key: last}
    for member, own in zip(stacked.members, losses, strict=True):
        if not isclose(own, expected.get(member.stage.key, own), rel_tol=CLOSE):
            log.info("no pass of several stages: its losses are others, %g and %g", own, expected)
            return 1
    return count if together < count * seconds or not timed else 1


def _begun(task: Task, data: Data) -> Member:
    member = Member(task, data)
    if member.goes_on():
        member.begin()
    return member


def _fits(member: Member) -> bool:
    """Whether such stages can be stacked at all: nothing of theirs but the network learns or remembers."""
    return (
        member.goes_on()
        and member.learner.train is member.data.train
        and is_elementwise(member)
        and not any(
            len(term.adapters) or term.takes & {"generator", "teacher_head"}
            for term in member.loss.terms.values()
        )
    )


def _tried(updates: Alone | Stacked, data: Data, timed: int = UPDATES) -> tuple[float, list[float]]:
    """The median seconds of updates, and each member's loss in the first."""
    step = updates.begin(1)
    batches: Iterator[Sequence[Tensor]] = cycle(updates.batches(1))
    first, seconds, start = step(next(batches)), [0.0], time.perf_counter()
    losses = torch.atleast_1d(first["train/loss"][0]).tolist()  # waits for a GPU
    while len(seconds) <= timed and time.perf_counter() - start < SECONDS:
        began = time.perf_counter()
        step(next(batches))
        if data.device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return median(seconds[1:] or seconds), losses
