"""The sections `teacher` and `student`, and the assistants between them."""

from collections.abc import Iterator
from math import isfinite
from typing import Any, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from kdsweep.config.section import Fraction, Positive, Section
from kdsweep.config.training import Training


class Network(Section):
    """A network by import path, called with num_classes, in_channels, image_size and its options."""

    name: str = Field(min_length=1)
    """how tables and runs call it"""
    model: dict[str, Any]
    """`_target_`: import path of a callable (num_classes, in_channels, image_size, …); and its options"""
    weights: str | None = None
    """begin with a file (safetensors, PyTorch), stage:KEY of the store, or MLflow's runs:/ID/PATH"""
    init: Literal["own", "keras", "keras_he"] = "own"
    """own: the network's own initialization; keras: Keras' defaults; keras_he: with He's for convolutions"""

    @field_validator("model")
    @classmethod
    def _has_a_target(cls, model: dict[str, Any]) -> dict[str, Any]:
        target = model.get("_target_")
        if not isinstance(target, str) or "." not in target:
            raise PydanticCustomError("target", "needs _target_, an import path such as my_networks.Small")
        for key in not_finite(model):
            raise PydanticCustomError("not_finite", f"its {key} must be finite; a word is quoted: '\"nan\"'")
        return model


def not_finite(values: Any, key: str = "") -> Iterator[str]:
    """The keys of numbers such as NaN, which no content key can hold."""
    if isinstance(values, float) and not isfinite(values):
        yield key
    named = dict(enumerate(values)) if isinstance(values, list) else values
    for name, value in named.items() if isinstance(named, dict) else ():
        yield from not_finite(value, f"{key}.{name}" if key else str(name))


class Teacher(Network):
    training: Training
    """a recipe of its own; what is not given is as the student's"""


class Assistant(Network):
    """A network between teacher and student; what it does not say is as for the student."""

    training: Training
    """a recipe of its own; what is not given is as the student's"""
    temperature: Positive | None = None
    """of the link that trains it; null: the job's"""
    alpha: Fraction | None = None
    """of the link that trains it; null: the job's"""


class Student(Network):
    assistants: list[Assistant]
    """networks between teacher and student, from large to small, for methods that have such"""
