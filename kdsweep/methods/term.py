"""One term of a loss at work: it is given by name what it takes, for each teacher if it takes one."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Size, Tensor, nn

from kdsweep.config.code import import_component
from kdsweep.errors import ConfigError
from kdsweep.methods import OF_EVERY_TERM, STAGES, taps_of
from kdsweep.stage import derive
from kdsweep.system.foreign_errors import one_line

Taken = Tensor | tuple[Tensor, ...]  # at one tap, or at several


@dataclass(frozen=True)
class Outputs:
    """What a network gives for a batch, float32: logits [B, C], and what is at its taps, by their names."""

    logits: Tensor
    taps: Mapping[str, tuple[Tensor, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Batch:
    """What terms look at in a step: outputs, `labels` int64 [B], `indices` [B] in the training split."""

    student: Outputs
    teachers: Sequence[Outputs]
    labels: Tensor
    indices: Tensor


@dataclass(frozen=True)
class Setting:
    """What terms are made for: so many teachers, all training labels [N], and where one has adapters an
    example of two images or more, for its shapes."""

    teachers: int
    train_labels: Tensor
    num_classes: int
    example: Callable[[], Batch]


class Term(nn.Module):
    """Of several teachers each is asked alone, by adapters of its own, and the losses are averaged."""

    def __init__(self, name: str, description: Mapping[str, Any], setting: Setting, seed: int) -> None:
        super().__init__()
        options = {key: value for key, value in description.items() if key not in OF_EVERY_TERM}
        self.taps = description.get("taps")
        self.generator = torch.Generator()
        try:
            component = import_component(description["_target_"])
            learns = inspect.isclass(component)
            self.takes = set(inspect.signature(component.forward if learns else component).parameters)
            self.number = setting.teachers if "teacher" in self.takes else 1
            self.adapters = nn.ModuleList()
            for teacher in range(self.number if learns else 0):
                torch.manual_seed(derive(seed, teacher, "adapter"))
                self.adapters.append(component(**self._made_for(component, setting, teacher), **options))
            self.function = None if learns else partial(component, **options)
        except Exception as error:
            raise ConfigError(f"method.terms.{name}: {reason(error)}") from error

    def forward(self, batch: Batch, epoch: int) -> Tensor:
        losses = []
        for teacher in range(self.number):
            known = {
                **self._taken(batch, teacher),
                "labels": batch.labels,
                "indices": batch.indices,
                "epoch": epoch,
                "generator": self.generator,
            }
            call: Callable[..., Tensor] = self.function or self.adapters[teacher]
            losses.append(call(**{key: value for key, value in known.items() if key in self.takes}))
        return losses[0] if len(losses) == 1 else torch.stack(losses).mean()

    def begin(self, seed: int) -> None:
        """Seed what the term draws from now on."""
        self.generator.manual_seed(seed)

    def _made_for(self, component: type[nn.Module], setting: Setting, teacher: int) -> dict[str, Any]:
        shapes = {side: _shapes(taken) for side, taken in self._taken(setting.example(), teacher).items()}
        known = {**shapes, "train_labels": setting.train_labels, "num_classes": setting.num_classes}
        asked = inspect.signature(component).parameters
        return {key: value for key, value in known.items() if key in asked}

    def _taken(self, batch: Batch, teacher: int) -> dict[str, Taken]:
        """What the term looks at of the student and of one teacher."""
        taken = {"student": _at(batch.student, taps_of(self.taps, "student"))}
        if "teacher" in self.takes:
            taken["teacher"] = _at(batch.teachers[teacher], taps_of(self.taps, "teacher"))
        if self.taps == STAGES:  # the networks may have different numbers: the deepest answer each other
            fewest = min(map(len, taken.values()))
            taken = {side: values[len(values) - fewest :] for side, values in taken.items()}
        return taken


def _at(outputs: Outputs, taps: str | Sequence[str] | None) -> Taken:
    if taps is None:
        return outputs.logits
    if taps == STAGES or not isinstance(taps, str):
        names = [taps] if isinstance(taps, str) else taps
        return tuple(value for name in names for value in outputs.taps[name])
    (value,) = outputs.taps[taps]
    return value


def _shapes(taken: Taken) -> Size | tuple[Size, ...]:
    return taken.shape if isinstance(taken, Tensor) else tuple(value.shape for value in taken)


def reason(error: Exception) -> str:
    """What an error says, in a line; terms raise ValueError with words of their own."""
    return " ".join(str(error).split()) if isinstance(error, ValueError) else one_line(error)
