"""The section `search`, and what a search may ask of a job."""

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema
from pydantic_core import PydanticCustomError

from kdsweep.config.section import Fraction, Section
from kdsweep.config.training import Selection
from kdsweep.errors import without_passwords

MONITORS = get_args(Selection)
COSTS = ("cost/parameters", "cost/flops", "cost/latency_ms", "cost/bytes")


def _is_objective(value: Any) -> Any:
    several = isinstance(value, list) and value and set(map(str, value)) <= {*MONITORS, *COSTS}
    if value not in MONITORS and not several:
        raise PydanticCustomError(
            "objective", f"allowed: {', '.join(MONITORS)}, or a list of these and {', '.join(COSTS)}"
        )
    return value


Objective = Annotated[
    str | list[str],
    BeforeValidator(_is_objective),
    WithJsonSchema(
        {"anyOf": [{"enum": MONITORS}, {"type": "array", "items": {"enum": [*MONITORS, *COSTS]}}]}
    ),
]


class Search(Section):
    """Optuna's search over jobs; it does not change what a job does."""

    n_trials: int = Field(ge=1, le=1_000_000)
    """trials in all; the same command resumes up to that number"""
    pruner: Literal["none", "median", "successive_halving", "hyperband"]
    """Optuna's pruner, with its defaults; it ends trials that do worse than others"""
    max_failure_rate: Fraction
    """share of n_trials that may fail; beyond it the search ends, exit status 1"""
    seed: int | None = Field(ge=0, lt=2**32)
    """seed of the sampler; null: another search each time"""
    storage: Annotated[str, PlainSerializer(without_passwords)] = Field(min_length=1)
    """any Optuna storage, by URL"""
    study: str | None
    """the study's name; null: derived from everything that shapes the trials"""
