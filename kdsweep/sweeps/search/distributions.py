"""The distribution from which Optuna draws a swept override, as Hydra's own plugin makes it."""

from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.types import (
    FloatRange,
    Glob,
    IntervalSweep,
    Override,
    RangeSweep,
    Transformer,
)
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution


def distribution(override: Override) -> BaseDistribution:
    """Raises ValueError for an override that Optuna refuses, such as an interval from high to low."""
    value = override.value()
    if isinstance(value, Glob):
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    if isinstance(value, IntervalSweep):
        low, high = value.start, value.end
        log = "log" in value.tags
        if isinstance(low, int) and isinstance(high, int):
            return IntDistribution(low, high, log=log)
        assert low is not None and high is not None
        return FloatDistribution(low, high, log=log)
    if isinstance(value, RangeSweep) and not value.shuffle and not value.transformers:
        numbers = value.range()
        if isinstance(numbers, range):
            return IntDistribution(min(numbers), max(numbers), step=abs(numbers.step))
        reals, step = list(numbers), float(value.step)
        return FloatDistribution(min(reals), max(reals), step=abs(step))
    values: list[Any] = list(override.sweep_iterator(transformer=Transformer.encode))
    return CategoricalDistribution(values)


def choices(searched: BaseDistribution) -> Sequence[Any]:
    """All values of a distribution; ValueError for an interval of real numbers."""
    if isinstance(searched, CategoricalDistribution):
        return searched.choices
    if isinstance(searched, IntDistribution):
        return list(range(searched.low, searched.high + 1, searched.step))
    if isinstance(searched, FloatDistribution) and searched.step is not None:
        return [*FloatRange(searched.low, searched.high, searched.step), searched.high]
    raise ValueError("has no end of values")
