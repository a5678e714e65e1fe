"""What sweeps and jobs leave, read again: a damaged file, or another program's, is refused by its name."""

import json
from base64 import b64decode
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    AllowInfNan,
    BaseModel,
    ConfigDict,
    Field,
    StrictInt,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import PydanticCustomError


def _packed(text: str) -> str:
    try:
        b64decode(text, validate=True)
    except ValueError as error:
        raise PydanticCustomError("packed", "must be as kdsweep packs numbers") from error
    return text


Number = Annotated[float, AllowInfNan(False)]
Packed = Annotated[str, AfterValidator(_packed)]
Left = TypeVar("Left")
_adapters: dict[type[Any], TypeAdapter[Any]] = {}  # which take a moment to make


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow")


class _Calibration(_Part):
    count: list[int]
    confidence: list[Number | None]
    accuracy: list[Number | None]


class _Test(_Part):
    accuracy: Number
    macro_f1: Number | None = None
    roc_auc: Number | None = None
    cross_entropy: Number | None = None
    calibration_error: Number | None = None
    calibration: _Calibration | None = None
    confusion: list[list[int]] = []
    right: Packed | None = None
    resampled: dict[str, Packed] = {}


class _Network(_Part):
    """What is taken for granted of every network, an ensemble too."""

    key: str
    name: str
    reused: bool
    seconds: Number
    test: _Test
    cost: dict[str, Number]


class _Model(_Part):
    target: str = Field(alias="_target_")


class _Trained(_Network):
    best_epoch: int
    history: list[dict[str, Number]]
    val: dict[str, Number]
    model: _Model | None = None
    source: str | None = None
    weights: str | None = None
    training: dict[str, Any] = {}
    objective: dict[str, Any] = {}


class _Data(_Part):
    name: str = ""
    images: dict[str, StrictInt] = {}
    classes: list[str] = []
    shape: list[StrictInt] = []


class _Latency(_Part):
    ms: dict[str, Number]
    load: Number
    cores: Number


def read_left(file: Path, kind: type[Left]) -> Left:
    """The `kind` of dataclass that is in a JSON file.

    Raises ValueError, which names the file and says what is wrong with it.
    """
    where: tuple[str, ...] = ()
    try:
        values = json.loads(file.read_text("utf-8"))
        found: Left = _adapter(kind).validate_python(values)
        where = ("dataset",)
        _Data.model_validate(getattr(found, "dataset", {}))
        where = ("latency",)
        if latency := getattr(found, "latency", {}):
            _Latency.model_validate(latency)
        networks: Mapping[str, Mapping[str, Any]] = getattr(found, "networks", {})
        for role, network in networks.items():
            where = ("networks", role)
            (_Network if "members" in network else _Trained).model_validate(network)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, (*where, *first["loc"])))
        raise ValueError(f"{file}: {f'its {key}: ' if key else ''}{first['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: is no JSON: {error}") from error
    if networks and not {"student", *getattr(found, "chain", [])} <= networks.keys():
        raise ValueError(f"{file}: lacks a network of its chain")
    return found


def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    return _adapters[kind]
