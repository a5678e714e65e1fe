"""What the sections of the schema have in common."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


def _rises(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise PydanticCustomError("range", "must be [smallest, largest]")
    return value


Range = Annotated[tuple[Positive, Positive], Field(strict=False), AfterValidator(_rises)]


class Section(BaseModel):
    """A mapping of the config: no other keys, no silent conversions, no NaN."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
