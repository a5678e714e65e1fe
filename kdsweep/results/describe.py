"""What a job is, as its result describes it before anything is trained."""

from typing import Any

from kdsweep.config import Config
from kdsweep.errors import without_passwords
from kdsweep.results.names import CHAIN_LENGTH, options_of
from kdsweep.results.result import JobResult


def describe(result: JobResult, config: Config) -> None:
    """Fill in the job's config and its recipe, which is short and lacks what the job does not use: reports
    compare jobs by it."""
    values = _without_passwords(config.model_dump(mode="json", by_alias=True))
    result.seed, result.config, result.options = config.seed, values, options_of(values)
    result.recipe = {
        "dataset": config.dataset.name,
        "student": config.student.name,
        "method": config.method.name,
    }
    numbers = {key: value for key in result.options if (value := _at(values, key)) is not None}
    if config.method.has_teacher:
        teachers = " + ".join(each.name for each in config.all_teachers.values())
        numbers = {"teacher": teachers, **numbers, CHAIN_LENGTH: config.chain_length}
    result.recipe |= numbers


def _without_passwords(values: Any) -> Any:
    if isinstance(values, dict):
        return {key: _without_passwords(value) for key, value in values.items()}
    if isinstance(values, list):
        return [_without_passwords(value) for value in values]
    return without_passwords(values) if isinstance(values, str) else values


def _at(values: Any, key: str) -> Any:
    """The value of a dotted key; None if there is none."""
    for part in key.split("."):
        values = values.get(part) if isinstance(values, dict) else None
    return values
