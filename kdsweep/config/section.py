"""What the sections of the schema have in common."""

from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue
from pydantic_core import PydanticCustomError

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]


def rises(value: tuple[float, float]) -> tuple[float, float]:
    """Check of a range."""
    if value[0] > value[1]:
        raise PydanticCustomError("range", "must be [smallest, largest]")
    return value


Range = Annotated[tuple[Positive, Positive], Field(strict=False), AfterValidator(rises)]


APART: dict[str, JsonValue] = {"apart": True}
"""Marks a field that shapes no job but where and how jobs run. It is not part of an experiment."""
OF_SWEEP: dict[str, JsonValue] = {"of_sweep": True}
"""Marks a field that does not shape a job's networks, but what is asked of them or how they are written."""


class Section(BaseModel):
    """A mapping of the config: no other keys, no silent conversions, no NaN."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    @classmethod
    def marked(cls, *marks: dict[str, JsonValue]) -> list[str]:
        """The dotted keys of the fields that have one of the marks, those of its sections too."""
        found: dict[str, None] = {}
        for name, field in cls.model_fields.items():
            key = field.alias or name
            if field.json_schema_extra in marks:
                found[key] = None
            else:
                below = [each for section in _sections(field.annotation) for each in section.marked(*marks)]
                found |= dict.fromkeys(f"{key}.{each}" for each in below)
        return list(found)


def _sections(annotation: Any) -> Iterator[type[Section]]:
    """The sections that a field may hold, except lists of sections, which no dotted key names."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    elif get_origin(annotation) in (Annotated, Union, UnionType):
        for each in get_args(annotation):
            yield from _sections(each)
