"""A part of a config that names a callable by its import path, with options for it."""

from collections.abc import Callable, Iterator
from math import isfinite
from typing import Any

from pydantic_core import PydanticCustomError


def component(example: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A validator of components such as `example`."""

    def check(values: dict[str, Any]) -> dict[str, Any]:
        target = values.get("_target_")
        if not isinstance(target, str) or "." not in target:
            raise PydanticCustomError(
                "target", "needs _target_, an import path such as {example}", {"example": example}
            )
        for key in not_finite(values):
            raise PydanticCustomError("not_finite", f"its {key} must be finite; a word is quoted: '\"nan\"'")
        return values

    return check


def not_finite(values: Any, key: str = "") -> Iterator[str]:
    """The keys of numbers such as NaN, which no content key can hold."""
    if isinstance(values, float) and not isfinite(values):
        yield key
    named = dict(enumerate(values)) if isinstance(values, list) else values
    for name, value in named.items() if isinstance(named, dict) else ():
        yield from not_finite(value, f"{key}.{name}" if key else str(name))
