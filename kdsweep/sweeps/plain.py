"""A composed config as plain dictionaries, into which the values of many jobs are put.

OmegaConf takes ten milliseconds to copy and resolve a config; thousands of jobs may differ by numbers alone.
Hydra imports this module at every start: keep it light.
"""

import copy
import re
from collections.abc import Iterator, Sequence
from typing import Any

from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf

REFERENCE = re.compile(r"\$\{(\w+(?:\.\w+)*)\}")  # a whole value such as ${training.epochs}, without resolver
Path = tuple[str, ...]


class PlainConfig:
    """`config` with its references to other keys; usable if it has nothing else to resolve."""

    def __init__(self, config: DictConfig) -> None:
        raw: Any = OmegaConf.to_container(config, resolve=False)
        self.raw: dict[str, Any] = raw
        self.references: dict[Path, Path] = {}
        self.usable = True
        for path, value in _leaves(raw):
            if isinstance(value, str) and "$" in value:
                found = REFERENCE.fullmatch(value)
                self.usable &= found is not None
                self.references[path] = tuple(found[1].split(".")) if found else ()
            elif "$" in str(value) or "???" in str(value):  # a reference in a list, or a missing value
                self.usable = False

    def values(self, overrides: Sequence[Override]) -> dict[str, Any] | None:
        """The values with these overrides; None if that takes more than putting in plain values."""
        if not self.usable:
            return None
        values, given = copy.deepcopy(self.raw), set[Path]()
        for override in overrides:
            path, value = tuple(override.key_or_group.split(".")), override.value()
            plain = value is None or type(value) in (bool, int, float)
            plain |= type(value) is str and re.fullmatch(r"[\w./-]+", value) is not None
            if not plain or override.type != OverrideType.CHANGE or override.package:
                return None
            above = _get(values, path[:-1])
            if not isinstance(above, dict) or isinstance(above.get(path[-1], {}), dict | list):
                return None  # the key is unknown, or has keys of its own
            above[path[-1]] = value
            given.add(path)
        for path in self.references.keys() - given:
            seen, target = {path}, self.references[path]
            while target in self.references and target not in given and target not in seen:
                seen.add(target)
                target = self.references[target]
            found = _get(values, target)
            if target in seen or (found is None and _get(values, target[:-1]) is None):
                return None  # the reference is circular or refers to nothing: OmegaConf reports which
            if isinstance(found, dict):
                return None
            _get(values, path[:-1])[path[-1]] = copy.deepcopy(found)
        return values


def _leaves(values: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    if isinstance(values, dict):
        for key, value in values.items():
            yield from _leaves(value, (*path, str(key)))
    else:
        yield path, values


def _get(values: Any, path: Path) -> Any:
    """The value at a path; None if there is none."""
    for part in path:
        values = values.get(part) if isinstance(values, dict) else None
    return values
