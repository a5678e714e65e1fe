"""Turn a search's config into Optuna's terms, and report every mistake in it before anything runs."""

import dataclasses
import importlib.util
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from optuna import Trial
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    check_distribution_compatibility,
)
from optuna.samplers import BaseSampler, GridSampler
from optuna.trial import FrozenTrial

from kdsweep.config.code import source_digest
from kdsweep.config.search import MONITORS
from kdsweep.errors import ConfigError
from kdsweep.stage import FORMAT, digest
from kdsweep.store.place import place_store
from kdsweep.sweeps.overrides import sweep_arguments
from kdsweep.sweeps.search.best import NO_EXPERIMENT, of_the_job
from kdsweep.sweeps.search.distributions import choices, distribution
from kdsweep.sweeps.search.trials import Search

SAMPLERS = ("hydra_plugins.hydra_optuna_sweeper.*", "optuna.samplers.*", f"{__name__}.WorkersGrid")
DIRECTIONS = ("minimize", "maximize")
Space = Mapping[str, BaseDistribution]


@dataclass(frozen=True)
class Terms:
    """The terms of a search: its `space`; the `fixed` values and `deleted` keys of all trials; the config of
    the `sampler` that chooses the next trial and, for a `grid`, its choices; the objectives.

    Workers get it as it is.
    """

    space: Space
    fixed: Mapping[str, str]
    deleted: Sequence[str]
    sampler: Mapping[str, Any]
    grid: Mapping[str, Sequence[Any]] | None
    objectives: Sequence[str]
    directions: Sequence[str]
    search: Search

    @property
    def always(self) -> list[str]:
        """The overrides of every trial's job."""
        return [*(f"{key}={value}" for key, value in self.fixed.items()), *self.deleted]

    @property
    def monitor(self) -> str | None:
        """The figure to report after each epoch; None if there is none."""
        (only,) = self.objectives if len(self.objectives) == 1 else [""]
        return only if only in MONITORS else None

    def begin(self, trial: Trial) -> list[str]:
        """Note on a trial the fixed values that shape its job; the overrides of that job."""
        for key, value in self.fixed.items():
            if shapes(key):
                trial.set_user_attr(key, value)
        return self.overrides(trial)

    def overrides(self, trial: Trial | FrozenTrial) -> list[str]:
        """The overrides of a trial's job. Another command may have begun the trial: its own values hold."""
        own = {key: value for key, value in trial.user_attrs.items() if shapes(key)}
        values = {**self.fixed, **own, **trial.params}
        return [*(f"{key}={value}" for key, value in values.items()), *self.deleted]

    def check_study(self) -> None:
        """Raise ConfigError if the study exists and does not fit this search."""
        study = self.search.existing()
        if study is None:
            return
        name = f"search.study={self.search.study}"
        if [direction.name.lower() for direction in study.directions] != self.directions:
            raise ConfigError(f"{name}: has other objectives; give another name")
        trials = study.get_trials(deepcopy=False)
        for key, before in dict.fromkeys(item for trial in trials for item in trial.distributions.items()):
            now = self.space.get(key, before)
            try:
                check_distribution_compatibility(before, now)
            except ValueError:
                raise ConfigError(
                    f"{name}: its trials have {key} from {_range(before)}, this search from {_range(now)}; "
                    "give another search.study"
                ) from None


def read_terms(config: DictConfig, loader: ConfigLoader) -> Terms:
    """The search that a sweep's config asks for. Raises ConfigError for its mistakes."""
    sweeper = config.hydra.sweeper
    if sweeper.custom_search_space:
        raise ConfigError(
            f"hydra.sweeper.custom_search_space={sweeper.custom_search_space}: kdsweep runs no code here; "
            "give ranges, as in docs/search.md"
        )
    space, fixed, deleted = _space(config, loader)
    recipe: Any = OmegaConf.to_container(sweeper.sampler, resolve=True)
    grid = _grid(space) if recipe["_target_"].endswith("GridSampler") else None
    always = [*(f"{key}={value}" for key, value in fixed.items()), *deleted]
    base = loader.load_sweep_config(config, always)
    objectives = [base.objective] if isinstance(base.objective, str) else list(base.objective)
    terms = Terms(
        space=space,
        fixed=fixed,
        deleted=deleted,
        sampler=recipe,
        grid=grid,
        objectives=objectives,
        directions=_directions(sweeper.direction, objectives),
        search=Search(
            study=str(sweeper.study_name),
            storage=str(sweeper.storage),
            pruner=sweeper.pruner,
            sweep=str(config.hydra.sweep.dir),
            locks=place_store(base.store).root / "locks",
            n_trials=min(sweeper.n_trials, math.prod(map(len, grid.values()))) if grid else sweeper.n_trials,
            max_failure_rate=sweeper.max_failure_rate,
        ),
    )
    _check_sampler(terms)
    if sweeper.pruner != "none" and not terms.monitor:
        why = f"epochs do not report {objectives[0]}"
        if len(objectives) > 1:
            why = "Optuna does not prune by several objectives"
        raise ConfigError(f"search.pruner={sweeper.pruner}: must be none, {why}")
    if sweeper.study_name is None:
        search = dataclasses.replace(terms.search, study=_study_name(terms, base, config, loader))
        terms = dataclasses.replace(terms, search=search)
    return terms


def _space(
    config: DictConfig, loader: ConfigLoader
) -> tuple[dict[str, BaseDistribution], dict[str, str], list[str]]:
    """The searched space, the fixed values, the deleted keys."""
    space: dict[str, BaseDistribution] = {}
    fixed: dict[str, str] = {}
    deleted: list[str] = []
    for override in OverridesParser.create(loader).parse_overrides(sweep_arguments(config)):
        if override.is_delete():
            deleted.append(str(override.input_line))
        elif override.is_sweep_override():
            space[override.get_key_element()] = _distribution(override)
        else:
            fixed[override.get_key_element()] = override.get_value_element_as_str()
    if not space:
        raise ConfigError("search: nothing to search; give a range, such as 'temperature=interval(1.0,64.0)'")
    return space, fixed, deleted


def _distribution(override: Override) -> BaseDistribution:
    try:
        return distribution(override)
    except ValueError as error:
        why = str(error) or "cannot be searched"
        raise ConfigError(
            f"{override.input_line}: {why}; give choices (1,2,4), range(1,5) or interval(1.0,64.0)"
        ) from error


def _grid(space: Space) -> dict[str, Sequence[Any]]:
    grid: dict[str, Sequence[Any]] = {}
    for name, searched in space.items():
        try:
            grid[name] = choices(searched)
        except ValueError as error:
            raise ConfigError(
                f"hydra/sweeper/sampler=grid: {name} is an interval; give choices or a range"
            ) from error
    return grid


def _directions(wanted: Any, objectives: Sequence[str]) -> list[str]:
    """The directions of the objectives; by default accuracy is maximised, anything else minimised."""
    if wanted is None:
        return ["maximize" if each == "val/accuracy" else "minimize" for each in objectives]
    directions = [str(each).lower() for each in ([wanted] if isinstance(wanted, str) else wanted)]
    for each in directions:
        if each not in DIRECTIONS:
            raise ConfigError(f"hydra.sweeper.direction={each}: allowed: {', '.join(DIRECTIONS)}")
    if len(directions) != len(objectives):
        raise ConfigError(
            f"hydra.sweeper.direction: {len(directions)} given for {len(objectives)} objectives"
        )
    return directions


def _check_sampler(terms: Terms) -> None:
    """Report what the sampler lacks now, not when the study has trials to learn from."""
    target = terms.sampler["_target_"]
    if target.endswith("CmaEsSampler"):
        if importlib.util.find_spec("cmaes") is None:
            raise ConfigError("hydra/sweeper/sampler=cmaes needs the package cmaes: pip install cmaes")
        if len(terms.objectives) > 1:
            raise ConfigError("hydra/sweeper/sampler=cmaes: takes one objective; nsgaii takes several")
    try:
        make_sampler(terms.sampler, terms.grid, 0)
    except ModuleNotFoundError as error:
        raise ConfigError(f"{target} needs {error.name}: pip install {error.name}") from error
    except (InstantiationException, TypeError, ValueError) as error:  # Hydra wraps the sampler's own error
        reason = str(error.__cause__ or error).splitlines()[0]
        raise ConfigError(f"hydra.sweeper.sampler: {target} does not take its options: {reason}") from error


def make_sampler(
    recipe: Mapping[str, Any], grid: Mapping[str, Sequence[Any]] | None, number: int
) -> BaseSampler:
    """The sampler of the trial that follows `number` others, without lost ones. Each trial has its own seed:
    workers draw different values, and an interrupted search resumes as if it had not been interrupted."""
    seed = recipe.get("seed")
    in_sequence = recipe["_target_"].endswith(("QMCSampler", "GridSampler"))  # the seed shuffles these once
    own = seed if seed is None or in_sequence else seed + number
    if grid is not None:
        recipe = {**recipe, "_target_": f"{__name__}.{WorkersGrid.__name__}"}
    sampler = instantiate({**recipe, "seed": own}, _execution_whitelist_=SAMPLERS)
    own_sampler: BaseSampler = sampler if grid is None else sampler(grid)
    return own_sampler


class WorkersGrid(GridSampler):
    """Optuna's grid, without stopping Optuna's own loop at its end: workers count trials themselves."""

    def after_trial(self, *arguments: Any) -> None: ...


def _study_name(terms: Terms, base: DictConfig, config: DictConfig, loader: ConfigLoader) -> str:
    """One name for all commands whose trials have the same shape, by the same files."""
    composed = [base, *_of_choices(terms, config, loader)]
    description = {
        "configs": [of_the_job(each) for each in composed],
        "space": {name: repr(searched) for name, searched in terms.space.items()},
        "sampler": terms.sampler,
        "pruner": terms.search.pruner,
        "directions": terms.directions,
        "code": [_code(each) for each in composed],
        "format": FORMAT,
    }
    chosen = base.hydra.runtime.choices
    label = f"{chosen.experiment or base.dataset.name + '-' + base.student.name}-{chosen.search}"
    return f"{label}-{digest(description)[:8]}"


def _of_choices(terms: Terms, config: DictConfig, loader: ConfigLoader) -> Iterator[DictConfig]:
    """The config with each choice of a searched group or network class, since their files may change."""
    for key, searched in terms.space.items():
        in_files = key.endswith("_target_") or loader.get_group_options(key.lstrip("+"), None)
        if isinstance(searched, CategoricalDistribution) and in_files:
            for choice in searched.choices:
                yield loader.load_sweep_config(config, [*terms.always, f"{key}={choice}"])


def _code(config: DictConfig) -> str | None:
    """The digest of the user's own code in networks, assistants included, and in how they learn."""
    parts = ("teacher", "student", "method", "training")
    return source_digest(
        {"components": [OmegaConf.to_container(config[part], resolve=True) for part in parts]}
    )


def shapes(key: str) -> bool:
    """Whether a key, or an attribute of a trial, is one that shapes the job."""
    return not key.startswith("kdsweep.") and re.split(r"[./@]", key.lstrip("+"))[0] not in NO_EXPERIMENT


def _range(searched: BaseDistribution) -> str:
    if isinstance(searched, CategoricalDistribution):
        return f"({', '.join(map(str, searched.choices))})"
    assert isinstance(searched, IntDistribution | FloatDistribution)
    kind = "whole numbers " if isinstance(searched, IntDistribution) else ""
    return f"{kind}{searched.low} to {searched.high}{' in log scale' if searched.log else ''}"
