"""The sections `teacher` and `student`, and the assistants between them."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from kdsweep.config.component import component
from kdsweep.config.section import Fraction, Positive, Section
from kdsweep.config.training import Training


class Network(Section):
    """A network by import path, called with num_classes, in_channels, image_size and its options."""

    name: str = Field(min_length=1)
    """how tables and runs call it"""
    model: Annotated[dict[str, Any], AfterValidator(component("my_networks.Small"))]
    """`_target_`: import path of a callable (num_classes, in_channels, image_size, …); and its options"""
    weights: str | None = None
    """begin with a file (safetensors, PyTorch), stage:KEY of the store, or MLflow's runs:/ID/PATH"""
    init: Literal["own", "keras", "keras_he"] = "own"
    """own: the network's own initialization; keras: Keras' defaults; keras_he: with He's for convolutions"""


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
