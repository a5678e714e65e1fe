"""tune=N: give each method as many trials, drawn from the search space that its options declare.

The first trial of a method has its published defaults. The others are points of a scrambled Sobol sequence,
which does not depend on any result, so that every trial is an ordinary job of the sweep: planned, resumed and
shared as such. Afterwards `confirm` compares what was chosen.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override
from omegaconf import DictConfig

from kdsweep.errors import ConfigError
from kdsweep.sweeps.compose import compose
from kdsweep.sweeps.overrides import key_of, parsed

SWEPT_TOO = ("method", "seed")


def check_tune(config: DictConfig, keys: Sequence[str]) -> None:
    """Raise ConfigError if a sweep with `tune` sweeps numbers too, or does not confirm what it chose."""
    wanted = config.get("tune")
    if wanted is None:
        return
    if config.get("search"):
        raise ConfigError(
            f"tune={wanted}: is for a sweep, not for search={config.hydra.runtime.choices.search}"
        )
    other = [key for key in keys if key not in SWEPT_TOO]
    if other:
        raise ConfigError(
            f"{other[0]}: cannot be swept beside tune={wanted}, which draws each method's numbers itself; "
            "allowed: method, seed"
        )
    if not config.get("confirm"):
        raise ConfigError(
            f"tune={wanted}: needs confirm, the number of fresh seeds for the comparison, such as confirm=5"
        )


def with_trials(config: DictConfig, jobs: list[list[str]]) -> list[list[str]]:
    """The jobs, each followed by its method's trials; as they are without `tune`."""
    wanted = config.get("tune")
    if not wanted:
        return jobs
    composed = zip(jobs, compose(config, jobs), strict=True)
    return [[*job, *trial] for job, values in composed for trial in trials(values, wanted)]


def drawn_keys(jobs: Sequence[Sequence[str]], swept: Sequence[str]) -> list[str]:
    """The keys in which jobs differ: those that the command sweeps, and those that trials draw."""
    (first, *_), drawn = jobs, [line.partition("=")[0] for job in jobs for line in job]
    fixed = {line.partition("=")[0] for line in first}
    return list(dict.fromkeys([*swept, *(key for key in drawn if key not in fixed)]))


def trials(values: Mapping[str, Any] | DictConfig, wanted: int) -> Iterator[list[str]]:
    """The overrides of the trials of a job's method. Raises ConfigError for a search that is none."""
    method = values["method"]
    spaces = [
        (_space(key, option["search"]), option.get("axis") == "log")
        for key, option in method["options"].items()
        if option.get("search")
    ]
    yield []
    if spaces and wanted > 1:
        from scipy.stats import qmc

        from kdsweep.stage import derive

        points = qmc.Sobol(len(spaces), rng=derive(0, 0, str(method["name"]))).random(wanted - 1)
        for point in points:
            yield [
                f"{key_of(space)}={_value(space, is_log, float(share))}"
                for (space, is_log), share in zip(spaces, point, strict=True)
            ]


def _space(key: str, search: str) -> Override:
    override = parsed(f"{key}={search}")
    if not isinstance(override.value(), IntervalSweep | ChoiceSweep):
        raise ConfigError(
            f"method.options.{key}.search={search}: must be interval(low, high) or choice(a, b, …)"
        )
    return override


def _value(space: Override, is_log: bool, share: float) -> str:
    """The value at a share, 0 to 1, of a space; to three digits, which people can read."""
    found = space.value()
    if isinstance(found, IntervalSweep):
        low, high = float(found.start or 0), float(found.end or 0)
        value = low * (high / low) ** share if is_log else low + (high - low) * share
        return f"{value:.3g}"
    each = list(space.sweep_string_iterator())
    return each[int(share * len(each))]
