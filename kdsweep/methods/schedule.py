"""How the weight of a term changes while a stage is trained."""

from collections.abc import Mapping
from math import cos, pi
from typing import Any


def scheduled_weight(term: Mapping[str, Any], epoch: int, epochs: int) -> float:
    """The weight in an `epoch` (from 1) of so many.

    It rises in equal steps to `weight` over `warmup`, and falls from `decay` on as half a cosine, towards 0
    after the last epoch. Both are epochs or, below 1, a share of all epochs.
    """
    weight: float = term["weight"]
    warmup, decay = (_epochs(term.get(key), epochs) for key in ("warmup", "decay"))
    if warmup:
        weight *= min(epoch / warmup, 1)
    if decay is not None and epoch > decay:
        weight *= (1 + cos(pi * (epoch - decay) / (epochs + 1 - decay))) / 2
    return weight


def _epochs(given: float | None, epochs: int) -> float | None:
    return given * epochs if given is not None and given < 1 else given
