"""One term of a loss at work: it is given by name what it takes, for each teacher if it takes one."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Size, Tensor, nn

from kdsweep.config.code import import_component
from kdsweep.errors import ConfigError
from kdsweep.methods import LOGITS, OF_EVERY_TERM, STAGES, WEIGHT, Side, Taps, needs_labels, taps_of
from kdsweep.methods.pairs import paired
from kdsweep.stage import derive
from kdsweep.system.foreign_errors import one_line

Taken = Tensor | tuple[Tensor, ...]  # at one tap, or at several
Head = Callable[[Tensor], Tensor]  # from embeddings [B, D] to logits [B, C]


@dataclass(frozen=True)
class Outputs:
    """What a network gives for a batch, float32: logits [B, C], and what is at its taps, by their names; and,
    of a teacher whose head a term takes, that head."""

    logits: Tensor
    taps: Mapping[str, tuple[Tensor, ...]] = field(default_factory=dict)
    head: Head | None = None


@dataclass(frozen=True)
class Batch:
    """What terms look at in a step: outputs, `labels` int64 [B], or float32 [B, C] of mixed images, and
    `indices` [B] in the training split.

    The first `labeled` images have labels; None: all.
    """

    student: Outputs
    teachers: Sequence[Outputs]
    labels: Tensor
    indices: Tensor
    labeled: int | None = None


def labeled_part(batch: Batch) -> Batch:
    """The images of a batch that have labels; each field with a row per image is a line here."""
    if batch.labeled is None:
        return batch
    rows = slice(batch.labeled)
    return Batch(
        student=_rows(batch.student, rows),
        teachers=[_rows(teacher, rows) for teacher in batch.teachers],
        labels=batch.labels[rows],
        indices=batch.indices[rows],
    )


def _rows(outputs: Outputs, rows: slice) -> Outputs:
    taps = {name: tuple(value[rows] for value in values) for name, values in outputs.taps.items()}
    return replace(outputs, logits=outputs.logits[rows], taps=taps)


@dataclass(frozen=True)
class Setting:
    """What terms are made for: so many teachers, all training labels [N], and the size of batches; for those
    with adapters an example of two images, for its shapes, and batches of all labelled training images."""

    teachers: int
    train_labels: Tensor
    num_classes: int
    batch_size: int
    example: Callable[[], Batch]
    training_images: Callable[[], Iterator[Batch]]
    weights: tuple[float, ...] = ()  # of the teachers, if they are not equal; they sum to 1


class Term(nn.Module):
    """Of several teachers each is asked alone, by adapters of its own, and the losses are averaged."""

    def __init__(self, name: str, description: Mapping[str, Any], setting: Setting, seed: int) -> None:
        super().__init__()
        options = {key: value for key, value in description.items() if key not in OF_EVERY_TERM}
        self.taps, self.standardize = description.get("taps"), description.get("standardize", False)
        self.generator = torch.Generator()
        try:
            if self.standardize and self.taps:
                raise ValueError("standardize is for terms of logits; this one has taps")
            component = import_component(description["_target_"])
            learns = inspect.isclass(component)
            self.soft_labels = getattr(component, "soft_labels", False)
            self.paired = not getattr(component, "unpaired", False)
            self.takes = set(inspect.signature(component.forward if learns else component).parameters)
            self.needs_labels, self.weights = needs_labels(self.takes), setting.weights
            self.number = setting.teachers if "teacher" in self.takes else 1
            self.adapters = nn.ModuleList()
            for teacher in range(self.number if learns else 0):
                torch.manual_seed(derive(seed, teacher, "adapter"))
                self.adapters.append(component(**self._made_for(component, setting, teacher), **options))
            self.function = None if learns else partial(component, **options)
            self.compares = getattr(component, "of_whole_batch", False) or _normalizes(self.adapters)
        except Exception as error:
            raise ConfigError(f"method.terms.{name}: {reason(error)}") from error

    def images(self, batch: Batch) -> int:
        """How many images of a batch the loss is the mean of: none if those with labels are too few."""
        if batch.labeled is None or not self.needs_labels:
            return len(batch.indices)
        return batch.labeled if batch.labeled >= (2 if self.compares else 1) else 0

    def forward(self, batch: Batch, epoch: int, numbers: Mapping[str, Tensor] | None = None) -> Tensor:
        """`numbers` are options to take in place of the term's own."""
        options = {key: value for key, value in (numbers or {}).items() if key != WEIGHT}
        if not self.images(batch):
            return batch.student.logits.sum() * 0  # with a gradient, as there may be no other term
        if self.needs_labels:
            batch = labeled_part(batch)
        losses = []
        for teacher in range(self.number):
            known: dict[str, Any] = {
                **self._taken(batch, teacher),
                "labels": batch.labels,
                "indices": batch.indices,
                "epoch": epoch,
                "generator": self.generator,
            }
            if "teacher_head" in self.takes:
                known["teacher_head"] = batch.teachers[teacher].head
            call: Callable[..., Tensor] = self.function or self.adapters[teacher]
            taken = {key: value for key, value in known.items() if key in self.takes}
            losses.append(call(**taken, **options))
        if len(losses) == 1:
            return losses[0]
        together = torch.stack(losses)
        return together @ together.new_tensor(self.weights) if self.weights else together.mean()

    def begin(self, seed: int) -> None:
        """Seed what the term draws from now on."""
        self.generator.manual_seed(seed)

    def figures(self) -> dict[str, Tensor]:
        """What the term reports beside its loss; of several teachers the mean."""
        found = [getattr(adapter, "figures", {}) for adapter in self.adapters]
        return (
            {name: torch.stack([each[name] for each in found]).mean() for name in found[0]} if found else {}
        )

    def pairs(self, batch: Batch) -> list[list[Sequence[Tensor]]]:
        """What of the student the term compares with what of the first teacher, one by one if it can."""
        sides = [_several(taken) for taken in self._taken(batch, 0).values()]
        one_by_one = self.paired and len({len(side) for side in sides}) == 1
        return [[[value] for value in pair] for pair in zip(*sides, strict=True)] if one_by_one else [sides]

    def _made_for(self, component: type[nn.Module], setting: Setting, teacher: int) -> dict[str, Any]:
        asked = inspect.signature(component).parameters
        shapes = {side: _shapes(taken) for side, taken in self._taken(setting.example(), teacher).items()}
        known = {
            **shapes,
            "train_labels": setting.train_labels,
            "num_classes": setting.num_classes,
            "batch_size": setting.batch_size,
            "teacher_outputs": self._teacher_outputs(setting, teacher),
        }
        return {key: value for key, value in known.items() if key in asked}

    def _teacher_outputs(self, setting: Setting, teacher: int) -> Iterator[tuple[Taken, Tensor]]:
        student = setting.example().student  # with which a teacher's stages are paired
        for batch in setting.training_images():
            yield self._taken(replace(batch, student=student), teacher)["teacher"], batch.labels

    def _taken(self, batch: Batch, teacher: int) -> dict[str, Taken]:
        """What the term looks at of the student and of one teacher."""
        sides: dict[Side, Outputs] = {"student": batch.student}
        if "teacher" in self.takes:
            sides["teacher"] = batch.teachers[teacher]
        if not self.taps:
            return {
                side: _standardized(outputs.logits) if self.standardize else outputs.logits
                for side, outputs in sides.items()
            }
        found = {side: _at(outputs, taps_of(self.taps, side)) for side, outputs in sides.items()}
        if self.paired and "teacher" in found and len(found["student"]) == len(found["teacher"]):
            pairs = [paired(ours, theirs) for ours, theirs in zip(*found.values(), strict=True)]
            found = dict(zip(sides, map(list, zip(*pairs, strict=True)), strict=True))
        return {side: _plain(values, taps_of(self.taps, side)) for side, values in found.items()}


def _at(outputs: Outputs, taps: Taps | None) -> list[tuple[Tensor, ...]]:
    """The values at each tap; `stages` has several."""
    values = {**outputs.taps, LOGITS: (outputs.logits,)}
    return [values[name] for name in ([taps] if isinstance(taps, str) else taps or ())]


def _plain(values: Sequence[tuple[Tensor, ...]], taps: Taps | None) -> Taken:
    if isinstance(taps, str) and not taps.startswith(STAGES):
        return values[0][0]
    return tuple(value for group in values for value in group)


def _standardized(logits: Tensor) -> Tensor:
    """Z-scores of each image's logits (Sun et al. 2024, arXiv:2403.01427, equation 10)."""
    deviation = logits.std(dim=-1, keepdim=True)  # with C - 1, as the authors' code
    return (logits - logits.mean(dim=-1, keepdim=True)) / (deviation + 1e-7)


def _several(taken: Taken) -> Sequence[Tensor]:
    return (taken,) if isinstance(taken, Tensor) else taken


def _shapes(taken: Taken) -> Size | tuple[Size, ...]:
    return taken.shape if isinstance(taken, Tensor) else tuple(value.shape for value in taken)


def _normalizes(module: nn.Module) -> bool:
    return any(isinstance(part, nn.modules.batchnorm._NormBase) for part in module.modules())


def reason(error: Exception) -> str:
    """What an error says, in a line; terms raise ValueError with words of their own."""
    return " ".join(str(error).split()) if isinstance(error, ValueError) else one_line(error)
