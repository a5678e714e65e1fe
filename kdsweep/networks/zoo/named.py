"""Networks as a sequence of named parts, by which methods find their taps."""

from collections import OrderedDict
from collections.abc import Iterable

from torch import nn


class Named(nn.Sequential):
    """Parts that run one after the other, in their order."""

    def __init__(self, **parts: nn.Module) -> None:
        super().__init__(OrderedDict(parts))


def numbered(name: str, parts: Iterable[nn.Module]) -> dict[str, nn.Module]:
    """The parts by a name with their numbers, from 1."""
    return {f"{name}{number}": part for number, part in enumerate(parts, start=1)}
