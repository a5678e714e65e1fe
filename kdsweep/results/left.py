"""The records of sweeps and jobs as JSON; an error names a damaged or foreign file."""

import json
import re
from base64 import b64decode
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from kdsweep.results.network import Evaluation

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Left = TypeVar("Left")
_adapters: dict[type[Any], TypeAdapter[Any]] = {}  # they take a moment to make
HALVES = re.compile("[\ud800-\udfff]")  # of surrogate pairs, in file names that are not UTF-8


def as_json(left: "DataclassInstance") -> str:
    """The JSON text of a dataclass, for `read_left`."""
    text = json.dumps(asdict(left), indent=1, ensure_ascii=False)
    return HALVES.sub(lambda half: f"\\\\u{ord(half[0]):x}", text)


def read_left(file: Path, kind: type[Left]) -> Left:
    """Read a dataclass of this `kind` from a JSON file.

    Raises ValueError, which names the file and what is wrong with it.
    """
    try:
        record = _adapter(kind).validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise ValueError(f"{file}: {f'its {key}: ' if key else ''}{first['msg']}") from error
    networks = getattr(record, "networks", {})
    if networks and not {"student", *getattr(record, "chain", [])} <= networks.keys():
        raise ValueError(f"{file}: lacks a network of its chain")
    for role, network in networks.items():
        if not all(map(_is_packed, _packed(network.test))):
            raise ValueError(f"{file}: its networks.{role}.test: must be as kdsweep packs numbers")
    return record


def _adapter(kind: type[Left]) -> TypeAdapter[Left]:
    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    return _adapters[kind]


def _packed(test: Evaluation) -> Iterable[str]:
    return [*test.resampled.values(), *([test.right] if test.right is not None else [])]


def _is_packed(text: str) -> bool:
    try:
        b64decode(text, validate=True)
    except ValueError:
        return False
    return True
