"""The sections `teacher` and `student`, and the assistants between them."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from kdsweep.config.component import component
from kdsweep.config.section import Fraction, Positive, Section
from kdsweep.config.training import Training

EXPORTED, OUTPUTS = "kdsweep.networks.exported.Exported", "kdsweep.networks.outputs.Outputs"


def is_file(model: Mapping[str, Any]) -> bool:
    """Whether a network is all in its file: a description of it alone builds nothing."""
    return model["_target_"] in (EXPORTED, OUTPUTS)


class Network(Section):
    """A network by import path, called with num_classes, in_channels, image_size and its options."""

    name: str = Field(min_length=1)
    """its name in tables and runs"""
    model: Annotated[dict[str, Any], AfterValidator(component("my_networks.Small"))]
    """`_target_`, the import path of a callable (num_classes, in_channels, image_size, …), and its options"""
    weights: str | None = None
    """initial weights: a file (safetensors, PyTorch), stage:KEY of the store, or MLflow's runs:/ID/PATH"""
    init: Literal["own", "keras", "keras_he"] = "own"
    """own: the network's initialization; keras: Keras' defaults; keras_he: with He's for convolutions"""


def _numbers(given: Any) -> Iterator[int]:
    """The outputs that 5, "2-4" or a list of such name. Raises ValueError for anything else."""
    if isinstance(given, list | tuple):
        for each in given:
            yield from _numbers(each)
    elif type(given) is int and given >= 0:
        yield given
    elif isinstance(given, str) and (found := re.fullmatch(r"(\d+)(?:-(\d+))?", given)):
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first:
            raise ValueError
        yield from range(first, last + 1)
    else:
        raise ValueError


def _outputs(value: Any) -> Any:
    """The names of all outputs, or the outputs of each class."""
    if value is None:
        return None
    try:
        if isinstance(value, dict):
            return {str(name): tuple(dict.fromkeys(_numbers(each))) for name, each in value.items()}
        if isinstance(value, list | tuple) and len(value) > 1:
            return tuple(map(str, value))
    except ValueError:
        pass
    raise PydanticCustomError(
        "outputs",
        "must be the names of all its outputs, in order: [dog, cat, bird]; or the numbers of the outputs of "
        "each class: {{cat: 281-285, dog: [151-268, 273]}}",
    )


Outputs = Annotated[
    tuple[str, ...] | dict[str, tuple[int, ...]] | None,
    BeforeValidator(_outputs),
    WithJsonSchema({"enum": ["[dog, cat, bird]", "{cat: 281-285, dog: 151-268}"]}),
]


class Teacher(Network):
    gives: Literal["logits", "probabilities", "embedding"] = "logits"
    """what its network gives; embedding: it has no head, and terms look at its embedding and maps"""
    classes: Outputs = None
    """the classes of its outputs, in order, if these are not the data set's; or the outputs of each class"""
    num_classes: int | None = Field(default=None, ge=2)
    """the number of its outputs, if `classes` gives the outputs of each class"""
    weight: Positive = 1.0
    """its share among several teachers, relative to theirs"""
    training: Training
    """the teacher's recipe; values that are not given are the student's"""
    label_smoothing: float = Field(default=0, ge=0, lt=1)
    """ε of the labels that the teacher learns, as method.terms.labels.smoothing is of the student's"""


class Assistant(Network):
    """A network between teacher and student; values that are not given are the student's."""

    training: Training
    """its recipe; values that are not given are the student's"""
    temperature: Positive | None = None
    """temperature of the step that trains it; null: the job's"""
    alpha: Fraction | None = None
    """alpha of the step that trains it; null: the job's"""


class Student(Network):
    assistants: list[Assistant]
    """networks between teacher and student, from large to small, for chains that use them"""
