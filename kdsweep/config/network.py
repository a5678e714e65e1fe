"""The sections `teacher` and `student`, and the assistants between them."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from kdsweep.config.component import component
from kdsweep.config.section import Fraction, Positive, Section
from kdsweep.config.training import Training


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


class Teacher(Network):
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
