"""The training loop: tensors in memory, on the device, one stage alone or several in one pass."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn

from kdsweep.data.dataset import Dataset
from kdsweep.data.split import UNLABELED
from kdsweep.stage import Stage
from kdsweep.training.alone import Alone
from kdsweep.training.checkpoint import Saves
from kdsweep.training.member import Data, Fitted, Member, Task
from kdsweep.training.stacked import Stacked, unadvised
from kdsweep.training.teaching import Teaching


def fit(
    stage: Stage,
    dataset: Dataset,
    teaching: Teaching,
    device: torch.device,
    unfinished: Path,
    on_epoch: Callable[[int, dict[str, float], float], None],
    initial: Path | None = None,
    teacher: Callable[[], nn.Module] | None = None,
) -> Fitted:
    """Train one stage, a `Task` of these arguments.

    The seed determines the initial weights, unless the file `initial` has them, and, derived for each epoch,
    batch order, augmentation, dropout and what terms draw; on one machine, with one number of threads, the
    CPU gives the same weights bit for bit, interrupted or not. Raises TrainingError if the loss is no longer
    a number, ConfigError for terms or taps that do not fit.
    """
    task = Task(stage, teaching, unfinished, on_epoch, initial, teacher)
    return fit_together([task], dataset, device)[0].fitted()


def fit_together(tasks: Sequence[Task], dataset: Dataset, device: torch.device) -> list[Member]:
    """Train stages that differ only in seeds and numbers in one pass, as far as they are at one point; they
    are at an end then, each for itself.

    In a pass sums are formed in another order than alone, so the last bits of the weights differ.
    """
    data = Data(dataset, device, UNLABELED in tasks[0].stage.data)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), unadvised():
        members = [Member(task, data) for task in tasks]
        saves = Saves()
        while going := [member for member in members if member.goes_on()]:
            _train([member for member in going if member.point == going[0].point], saves)
    return members


def _train(members: Sequence[Member], saves: Saves) -> None:
    """Train the phase under way until it is over for one of the members."""
    members[0].begin()
    if not members[0].sees_images:  # features of its own: no pass of several is as fast
        members = members[:1]
    for member in members[1:]:
        member.begin()
    updates = Alone(members) if len(members) == 1 else Stacked(members)
    phase, together = members[0].progress.phase, len(members)
    while all(member.goes_on() and member.progress.phase == phase for member in members):
        start = time.perf_counter()
        figures = updates.epoch()
        share = (time.perf_counter() - start) / together
        for member, own in zip(updates.members, figures, strict=True):
            member.end_epoch(own, share, together)
        counted = [member for member in members if not member.error]
        if saves.are_due():
            with saves.timed():
                for member in counted:
                    member.checkpoint.write(member.progress, member.optimizer, member.average)
                for member in counted:  # at once, so that a kill finds all at one point
                    member.checkpoint.replace()
        for member in counted:
            member.report()
    for member in members:
        if not member.goes_on():
            member.end()
