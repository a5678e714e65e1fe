"""The overrides of a sweep: what they sweep, and the jobs that they give."""

import itertools
from collections.abc import Sequence
from functools import lru_cache
from math import ceil, prod
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, QuotedString, RangeSweep
from omegaconf import DictConfig, OmegaConf


def swept_values(overrides: Sequence[str], keys: Sequence[str]) -> dict[str, Any]:
    """The values of the swept keys in a job's overrides."""
    given = {key_of(each): each.value() for each in map(parsed, overrides)}
    values = {key: given[key] for key in keys if key in given}
    return {key: value.text if isinstance(value, QuotedString) else value for key, value in values.items()}


@lru_cache(maxsize=10_000)
def parsed(line: str) -> Override:
    """The override of a line, as Hydra reads it without looking into the groups."""
    (override,) = OverridesParser.create().parse_overrides([line])
    return override


def sweep_arguments(config: DictConfig) -> list[str]:
    """The sweep's overrides, first those of the sweeper's config; the last one for a key counts."""
    params = OmegaConf.select(config, "hydra.sweeper.params") or {}
    task: Any = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)  # jobs resolve them
    arguments = [f"{key}={value}" for key, value in params.items()] + task
    last = {(key_of(each), each.is_delete()): str(each.input_line) for each in map(parsed, arguments)}
    return list(last.values())


def read_overrides(config: DictConfig) -> list[Override]:
    """The sweep's overrides as Hydra reads them."""
    parser = OverridesParser.create(GlobalHydra.instance().config_loader())
    return parser.parse_overrides(sweep_arguments(config))


def key_of(override: Override) -> str:
    """The overridden key or group, without the + that adds it."""
    return override.get_key_element().lstrip("+")


def combinations(overrides: Sequence[Override], limit: int) -> list[list[str]]:
    """The overrides of every job; an interval, whose values only the sweeper knows, gives both its ends.

    Beyond `limit` jobs, each choice appears only with the first of the others.
    """
    of_each = [choices(override) for override in overrides]
    if prod(map(len, of_each)) <= limit:
        return [list(job) for job in itertools.product(*of_each)]
    first = [each[0] for each in of_each]
    return [[*first[:i], choice, *first[i + 1 :]] for i, each in enumerate(of_each) for choice in each]


def count(override: Override) -> int:
    """How many choices an override gives; a range is not listed for that."""
    value = override.value()
    if isinstance(value, RangeSweep) and value.start is not None and value.stop is not None and value.step:
        return max(0, ceil((float(value.stop) - float(value.start)) / float(value.step)))
    return len(choices(override))


def choices(override: Override) -> list[str]:
    """The overrides that a swept override gives; for an interval its ends."""
    if not override.is_sweep_override():
        return [str(override.input_line)]
    key, value = override.get_key_element(), override.value()
    if isinstance(value, IntervalSweep):
        return [f"{key}={value.start}", f"{key}={value.end}"]
    return [f"{key}={each}" for each in override.sweep_string_iterator()]
