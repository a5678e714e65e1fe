"""Networks as a sequence of named parts, by which methods find their taps."""

import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import ClassVar

from torch import nn

STEM = {r"stem\.0": "conv1", r"stem\.1": "bn1"}


class Named(nn.Sequential):
    """Parts that run one after the other, in their order.

    `repdistiller` has patterns of the names of modules, and the names that RepDistiller's and mdistiller's
    checkpoints give them.
    """

    repdistiller: ClassVar[Mapping[str, str]] = {}

    def __init__(self, **parts: nn.Module) -> None:
        super().__init__(OrderedDict(parts))

    @property
    def original_names(self) -> dict[str, str]:
        """The names of tensors in those checkpoints, and here."""
        names = {}
        for name in self.state_dict():
            module, _, tensor = name.rpartition(".")
            found = (re.fullmatch(pattern, module) for pattern in self.repdistiller)
            if match := next(filter(None, found), None):
                names[f"{match.expand(self.repdistiller[match.re.pattern])}.{tensor}"] = name
        return names


def in_blocks(part: str, names: str, block: str = r"layer\1.\2") -> dict[str, str]:
    """Patterns for a sequence in each block: the names of its modules in order; "-" has no tensors."""
    return {
        rf"stage(\d)\.(\d+)\.{part}\.{place}": f"{block}.{name}"
        for place, name in enumerate(names.split())
        if name != "-"
    }


def numbered(name: str, parts: Iterable[nn.Module]) -> dict[str, nn.Module]:
    """The parts by a name with their numbers, from 1."""
    return {f"{name}{number}": part for number, part in enumerate(parts, start=1)}
