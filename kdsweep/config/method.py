"""The section `method`."""

from typing import Annotated, Literal

from pydantic import Field

from kdsweep.config.network import Assistant
from kdsweep.config.section import Section


class Option(Section):
    """How tables, pictures and MLflow write a number that a method takes."""

    sign: str = Field(min_length=1)
    """such as T or β"""
    axis: Literal["linear", "log"] = "linear"
    """of pictures that sweep it"""


class Distillation(Section):
    """How each link of a chain is taught by those before it."""

    name: str = Field(min_length=1)
    """how tables and runs call it"""
    options: dict[str, Option]
    """how the numbers it takes are written, by their keys"""
    loss: Literal["kd", "logit_mse"]
    """kd: softened outputs; logit_mse: mean squared difference of the logits, temperature plays no part"""
    scale_by_temperature_squared: bool
    """kd alone; false: the form without T²"""
    between: Literal["nothing", "assistants", "generations"]
    """what stands between teacher and student when chain_length > 1"""
    taught_by: Literal["previous", "all"]
    """a link's teachers: the link before it, or every one, averaged"""
    assistants: list[Assistant]
    """networks from large to small, instead of student.assistants"""
    ensemble: list[str]
    """links whose averaged outputs are evaluated too: teacher, generations (all after it), or single ones"""


class Scratch(Section):
    """No teacher."""

    name: Literal["scratch"]
    """how tables and runs call it"""
    options: dict[str, Option]
    """how the numbers it takes are written, by their keys"""
    loss: Literal["cross_entropy"]
    """cross_entropy: the labels alone"""


Method = Annotated[Distillation | Scratch, Field(discriminator="loss")]
