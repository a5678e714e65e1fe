"""How swept values are written for people: T=4 α=0.5 seed=1.

A method defines how its numbers are written (`method.options`); any other key has its own name.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from kdsweep.results.strict import STRICT

CHAIN_LENGTH, METHOD = "chain_length", "method"
TEACHER = "teacher"  # the role, and what those of further teachers begin with
LABELS = {CHAIN_LENGTH: "chain length (steps of distillation)"}


@dataclass(frozen=True)
class Option:
    """How a number of a method is written, and on which axis it is drawn."""

    __pydantic_config__: ClassVar = STRICT

    sign: str
    axis: Literal["linear", "log"] = "linear"


Options = Mapping[str, Option]  # by the key in the config


def options_of(config: Mapping[str, Any]) -> dict[str, Option]:
    """The options of the method in a job's config."""
    options: Mapping[str, Mapping[str, Any]] = config.get("method", {}).get("options", {})
    return {key: Option(each["sign"], each.get("axis", "linear")) for key, each in options.items()}


def joined(options: Iterable[Options]) -> dict[str, Option]:
    """The options of several methods; the first method with a key decides."""
    union: dict[str, Option] = {}
    for each in options:
        union = {**each, **union}
    return union


def written(value: Any) -> str:
    """A value as text, numbers to four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def named(values: Mapping[str, Any], options: Options) -> str:
    """Values by their keys: T=4 α=0.5 seed=1."""
    return " ".join(f"{sign(key, options)}={written(value)}" for key, value in values.items())


def sign(key: str, options: Options) -> str:
    return options[key].sign if key in options else key


def spoken(key: str) -> str:
    """A key in a sentence or a heading: dkd beta for method.terms.dkd.beta."""
    words = key.removeprefix("method.terms.")
    return (key if words == key else words.replace(".", " ")).replace("_", " ")


def axis_label(key: str, options: Options) -> str:
    """The label of an axis: temperature T."""
    return LABELS.get(key) or (f"{spoken(key)} {options[key].sign}" if key in options else key)


def is_log(key: str, options: Options) -> bool | None:
    """Whether the key has a logarithmic axis; None if the values decide."""
    return options[key].axis == "log" if key in options else None


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def usual(options: Options) -> list[str]:
    """The keys that are drawn first where they were swept."""
    return [*options, CHAIN_LENGTH]


def link_name(role: str) -> str:
    """A role as people write it: generation 2, baseline, teacher second."""
    if kind_of(role) == TEACHER:
        return role.replace("teachers.", "teacher ")
    return "baseline" if role == "scratch" else re.sub(r"(\d+)$", r" \1", role)


def kind_of(role: str) -> str:
    """The role; of a further teacher, teacher."""
    return TEACHER if role.startswith("teachers.") else role
