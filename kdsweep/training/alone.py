"""The updates of an epoch of one stage."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kdsweep.data.mix import main_class
from kdsweep.data.split import UNLABELED
from kdsweep.methods.loss import Loss
from kdsweep.methods.term import Batch
from kdsweep.stage import derive
from kdsweep.training.batches import batches
from kdsweep.training.frozen import train as set_train
from kdsweep.training.member import Member
from kdsweep.training.network import Inputs

Figures = dict[str, tuple[Tensor, int]]  # of a batch: means, and over how many images


class Alone:
    """Trains one member."""

    def __init__(self, members: Sequence[Member]) -> None:
        (self.member,) = self.members = members

    def epoch(self) -> list[dict[str, float]]:
        """Train on every batch; return the figures per image."""
        epoch = self.member.progress.epoch + 1
        step = self.begin(epoch)
        with self.member.teaching.epoch(epoch):
            return [per_image(map(step, self.batches(epoch)))]

    def batches(self, epoch: int) -> Sequence[Sequence[Tensor]]:
        """The indices of each batch, in a list of one."""
        data = self.member.data
        order = batches(self.member.stage, data.train.labels[: data.labeled], len(data.train.labels), epoch)
        return [[batch] for batch in order]

    def begin(self, epoch: int) -> Callable[[Sequence[Tensor]], Figures]:
        """A function that makes one update from the images at its indices and returns the batch's figures.

        Of a batch with unlabelled images, which come last, those that need labels are of the first.
        """
        torch.manual_seed(derive(self.member.stage.seed, epoch, "dropout"))
        set_train(self.member.network)
        self.member.loss.train()
        self.member.loss.begin(epoch)
        member, learner, loss, optimizer = (
            self.member,
            self.member.learner,
            self.member.loss,
            self.member.optimizer,
        )
        stage, labeled = member.stage, member.data.labeled
        recipe, labels, device = stage.augment, learner.train.labels, member.data.device
        autocast = torch.autocast(device.type, torch.bfloat16, enabled=stage.training.mixed_precision)
        drawn = torch.Generator().manual_seed(derive(stage.seed, epoch, "augmentation"))
        learned = [parameter for group in optimizer.param_groups for parameter in group["params"]]

        def step(batch: Sequence[Tensor]) -> Figures:
            (indices,) = batch
            with_labels = int((indices < labeled).sum())
            indices = indices.to(device)
            if isinstance(learner.train, Inputs):
                inputs, expected = learner.train.augmented(indices, recipe, drawn)
            else:
                inputs, expected = learner.train.batch(indices), labels[indices]
            with autocast:
                taught = member.teaching.ask(indices, inputs)
                outputs = learner.student(inputs)
            mixed = with_labels if UNLABELED in stage.data else None
            looked_at = Batch(outputs, taught, expected, indices, mixed)
            losses = loss(looked_at, epoch, stage.training.total_epochs)
            optimizer.zero_grad()
            losses["loss"].backward()
            if stage.training.clip_norm:
                nn.utils.clip_grad_norm_(learned, stage.training.clip_norm)
            optimizer.step()
            if member.average:
                member.average.follow()
            return figures_of(losses, looked_at, loss, with_labels)

        return step


def figures_of(losses: Mapping[str, Tensor], batch: Batch, loss: Loss, with_labels: int) -> Figures:
    """The figures of a batch: the losses, what their terms report, and the accuracy of those with labels."""
    images = len(batch.indices)
    figures = {"train/loss": (losses["loss"].detach(), images)}
    for name, term in loss.terms.items():
        figures[f"train/loss_{name}"] = losses[name].detach(), term.images(batch)
    figures |= {f"train/{name}": (value.detach(), images) for name, value in loss.figures().items()}
    labels = main_class(batch.labels[:with_labels])
    right = batch.student.logits[:with_labels].argmax(dim=1).eq(labels)
    figures["train/accuracy"] = right.float().mean(), with_labels
    return figures


def per_image(batches: Iterable[Figures]) -> dict[str, Any]:
    """The figures per image of all batches, as lists if they are of several stages.

    Summing on the device avoids waiting for it.
    """
    totals: dict[str, Tensor] = {}
    images: Counter[str] = Counter()
    for figures in batches:
        for name, (figure, count) in figures.items():
            if count:  # else no image of the batch has it
                total = figure * count
                totals[name] = totals[name] + total if name in totals else total
                images[name] += count
    return {name: (total.double() / images[name]).tolist() for name, total in totals.items()}
