"""Whether stages train faster in one pass than one after another: a few updates of both ways tell."""

import logging
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import cycle
from math import isclose
from pathlib import Path
from statistics import median

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from kdsweep.data.dataset import Dataset
from kdsweep.data.split import UNLABELED
from kdsweep.training.alone import Alone
from kdsweep.training.frozen import drops
from kdsweep.training.member import Data, Member, Task
from kdsweep.training.side_by_side import is_elementwise
from kdsweep.training.stacked import Stacked, unadvised

log = logging.getLogger(__name__)

UPDATES, SECONDS = 6, 0.5  # that are timed at most, the first apart
LONG = 0.2  # seconds of an update that keeps a device busy by itself
# bytes of all networks of a pass; gradients and an optimizer's memory are three times as much
WEIGHTS = 2**28
# bytes that a pass may keep for its gradients on the CPU, of which it needs twice as many; on a GPU it is a
# third of what is free
ACTIVATIONS = 2**30
CLOSE = 1e-3  # the relative difference of losses that rounding explains


def faster_together(tasks: Sequence[Task], dataset: Dataset, device: torch.device, timed: bool = True) -> int:
    """How many of the tasks, from the first on, to train in one pass: 1 if they do not fit into one or, where
    it is `timed`, if one after another is as fast.

    Nothing is trained by it, and what the tasks have left unfinished is not touched. All are taught as the
    first is.
    """
    with (
        tempfile.TemporaryDirectory(prefix="kdsweep-") as folder,
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        unadvised(),
    ):
        # kept answers cost nothing either way, so that they do not count
        teaching = tasks[0].teaching.once() if tasks[0].teaching.kept else tasks[0].teaching
        aside = [
            replace(task, teaching=teaching, unfinished=Path(folder) / str(number), on_epoch=lambda *_: None)
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
    begun = {name: each.clone() for name, each in first.network.named_buffers()}
    seconds, (loss,) = _tried(Alone([first]), data)
    if timed and seconds > LONG:
        return 1  # without trying for minutes what gains nothing
    with _noting() as kept:
        _, (last,) = _tried(Alone([_begun(tasks[count - 1], data)]), data, 0)
    expected = {tasks[0].stage.key: loss, tasks[count - 1].stage.key: last}
    count = min(count, _room(data.device) // max(sum(kept.values()), 1))
    if count < 2:
        return 1
    stacked = Stacked([_begun(task, data) for task in tasks[:count]])
    before = _drawn(data.device)
    together, losses = _tried(stacked, data)
    if len(stacked.stages) > 1 and before != _drawn(data.device):
        return 1  # something draws that is not known to draw for each seed
    compared = stacked.draws.as_alone or not drops(first.network)
    for member, own in zip(stacked.members, losses, strict=True):
        if compared and not isclose(own, expected.get(member.stage.key, own), rel_tol=CLOSE):
            log.info("no pass of several stages: its losses are others, %g and %s", own, expected)
            return 1
        if member.stage.key == first.stage.key and _moved(member, begun) != _moved(first, begun):
            return 1  # a network that remembers by other means than in place
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
        and member.sees_images
        and is_elementwise(member)
        and not any(
            len(term.adapters) or term.takes & {"generator", "teacher_head"}
            for term in member.loss.terms.values()
        )
    )


@contextmanager
def _noting() -> Iterator[dict[int, int]]:
    """The bytes that are kept for gradients, by their place."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        yield kept


def _room(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0] // 3 if device.type == "cuda" else ACTIVATIONS


def _drawn(device: torch.device) -> list[bytes]:
    """The states of torch's own generators, which change when something draws from them."""
    states = [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]
    return [state.numpy().tobytes() for state in states]


def _moved(member: Member, begun: Mapping[str, Tensor]) -> set[str]:
    """The buffers of a network that training has changed."""
    return {name for name, each in member.network.named_buffers() if not torch.equal(each, begun[name])}


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
