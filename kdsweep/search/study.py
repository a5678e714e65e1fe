"""The search as a whole: Hydra's Optuna plugin, whose study goes on and whose workers ask it themselves."""

import contextlib
import copy
import dataclasses
import functools
import math
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from hydra.utils import instantiate
from hydra_plugins.hydra_optuna_sweeper._impl import OptunaSweeperImpl, create_params_from_overrides
from omegaconf import DictConfig, OmegaConf, read_write
from optuna import Study, Trial
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from kdsweep.alive import Alive
from kdsweep.config import cores
from kdsweep.errors import ConfigError, KdsweepError, explain
from kdsweep.launchers import ProcessDied
from kdsweep.models.source import source_digest
from kdsweep.result import RESULT
from kdsweep.search.best import APART
from kdsweep.search.report import standing, write_report
from kdsweep.search.trials import ERROR, Search, failures, is_waiting, open_storage
from kdsweep.search.worker import Worker, outcome
from kdsweep.stage import FORMAT, digest
from kdsweep.store import Store
from kdsweep.sweep import sweep_arguments

SAMPLERS = ("hydra_plugins.hydra_optuna_sweeper.*", "optuna.samplers.*")
WORKERS_FOLDERS = ["hydra.sweep.subdir=workers/${hydra.job.num}", "hydra.output_subdir=null"]
Space = Mapping[str, BaseDistribution]


class SearchImpl(OptunaSweeperImpl):
    """What the plugin does with distributions, samplers and params stays; how trials are run is other."""

    context: HydraContext
    config: DictConfig

    def __init__(self, pruner: str, custom_search_space: str | None, **plugin: Any) -> None:
        super().__init__(custom_search_space=custom_search_space, **plugin)
        self.pruner, self.own_space = pruner, custom_search_space

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "context": None}  # workers make trials into overrides by it, no more

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """A launcher is made for the workers once they are known."""
        self.context, self.config = hydra_context, config

    def sweep(self, arguments: list[str]) -> None:
        """Run trials until the study has as many as are wanted. Raises KdsweepError if too many failed."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        space, fixed, deleted = create_params_from_overrides(sweep_arguments(self.config))
        if not space:
            raise ConfigError(
                "search: nothing to search; give a range, such as 'temperature=interval(1.0,64.0)'"
            )
        always = [*(f"{key}={value}" for key, value in fixed.items()), *deleted]
        base = self.context.config_loader.load_sweep_config(self.config, always)
        sampler = functools.partial(make_sampler, *self._sampling(space))
        sampler(0)  # what it lacks is told now
        objectives = [base.objective] if isinstance(base.objective, str) else list(base.objective)
        search = self._search(base, space)
        study = self._open(search, objectives)
        worker = Worker(
            search,
            sampler,
            functools.partial(self._job_overrides, space, fixed, deleted),
            objectives[0] if len(objectives) == 1 else None,
            self.context,
            self.config,
        )
        if study.get_trials(deepcopy=False) and search.wants_more(study):
            print(f"goes on: {standing(study, search)}", flush=True)
        alive = Alive(search.locks, "search")
        try:
            self._run(study, dataclasses.replace(worker, parent=alive.text), always)
        finally:
            alive.end()
            try:
                write_report(study, search, objectives, functools.partial(self._composed, fixed, deleted))
            except Exception as error:  # which would hide how the search ended
                print(f"kdsweep: the report of the search is not whole: {explain(error)}", file=sys.stderr)
        if search.too_many(failed := failures(study)):
            raise KdsweepError(
                f"{len(failed)} trials failed; of {search.n_trials} search.max_failure_rate="
                f"{search.max_failure_rate:g} allows no more; the last: {failed[-1].user_attrs.get(ERROR)}\n"
                "once that is mended, give another search.study, or raise search.max_failure_rate to go on"
            )

    def _sampling(self, space: Space) -> tuple[dict[str, Any], dict[str, Sequence[Any]] | None]:
        """The sampler's config and, if that tries a grid, its choices; a grid sets a bound to n_trials."""
        recipe = plain(self.sampler)
        if not recipe["_target_"].endswith("GridSampler"):
            return recipe, None
        grid = {name: self._to_grid_sampler_choices(each) for name, each in space.items()}
        self.n_trials = min(self.n_trials, math.prod(map(len, grid.values())))
        return recipe, grid

    def _search(self, base: DictConfig, space: Space) -> Search:
        """A study is one for all commands that shape its trials alike, unless it was given a name."""
        shaping = {key: value for key, value in plain(base, resolve=False).items() if key not in APART}
        description = {
            "config": shaping,
            "space": {name: repr(distribution) for name, distribution in space.items()},
            "sampler": plain(self.sampler),
            "pruner": self.pruner,
            "direction": str(self.direction),
            "own space": self.own_space,
            "code": [source_digest(plain(base[role].model)) for role in ("teacher", "student")],
            "format": FORMAT,
        }
        chosen = base.hydra.runtime.choices
        label = f"{chosen.experiment or base.dataset.name + '-' + base.student.name}-{chosen.search}"
        name = self.study_name or f"{label}-{digest(description)[:8]}"
        locks, folder = Store(base.store).root / "locks", str(self.config.hydra.sweep.dir)
        return Search(
            name, str(self.storage), self.pruner, folder, locks, self.n_trials, self.max_failure_rate
        )

    def _open(self, search: Search, objectives: Sequence[str]) -> Study:
        """The study, made if it is not there; what dead processes left in it is tried again."""
        if self.direction is None:  # accuracy is to rise, all else to fall
            self.direction = ["maximize" if each == "val/accuracy" else "minimize" for each in objectives]
        wanted = self._get_directions()
        if len(wanted) != len(objectives):
            raise ConfigError(
                f"hydra.sweeper.direction: {len(wanted)} given for {len(objectives)} objectives"
            )
        if len(wanted) > 1 and self.pruner != "none":
            raise ConfigError(
                f"search.pruner={self.pruner}: must be none, Optuna does not prune by several objectives"
            )
        study = optuna.create_study(
            study_name=search.study,
            storage=open_storage(search.storage),
            directions=[StudyDirection[each.upper()] for each in wanted],
            load_if_exists=True,
        )
        if [direction.name.lower() for direction in study.directions] != wanted:
            raise ConfigError(f"search.study={search.study}: is of other objectives; give another name")
        search.give_up_dead(study)
        return study

    def _run(self, study: Study, worker: Worker, always: Sequence[str]) -> None:
        """Let workers run trials. What was under way when a process died is run again, one at a time."""
        alone = False
        while worker.search.wants_more(study):
            before = [trial.state for trial in study.get_trials(deepcopy=False)]
            try:
                returns = self._launch(dataclasses.replace(worker, only_again=alone), always, alone)
            except BaseException:
                worker.search.give_up_own(study, blame=False)
                raise
            lost = worker.search.give_up_own(study, blame=alone)
            for each in returns:
                with contextlib.suppress(ProcessDied):
                    outcome(each)  # raises what a worker could not tell the study
            if not lost and before == [trial.state for trial in study.get_trials(deepcopy=False)]:
                raise KdsweepError("search: the workers ended without a trial")
            alone = lost > 0 and is_waiting(study)

    def _launch(self, worker: Worker, always: Sequence[str], alone: bool) -> Sequence[JobReturn]:
        config = copy.deepcopy(self.config)
        with read_write(config.hydra):
            config.hydra.overrides.hydra = [*config.hydra.overrides.hydra, *WORKERS_FOLDERS]
        launcher = Plugins.instance().instantiate_launcher(
            config=config, hydra_context=self.context, task_function=worker
        )
        launch = getattr(launcher, "launch_once", launcher.launch)
        count = 1 if alone else min(self._workers(launcher), worker.search.n_trials)
        returns: Sequence[JobReturn] = launch([list(always)] * count, initial_job_idx=0)
        for result in Path(worker.search.sweep).glob(f"workers/*/{RESULT}"):  # a worker is no job
            result.unlink()
        return returns

    def _workers(self, launcher: Launcher) -> int:
        """How many jobs the hardware has room for, unless hydra.sweeper.n_jobs says so."""
        if isinstance(launcher, BasicLauncher):
            if self.n_jobs > 1:
                hardware = self.config.hydra.runtime.choices.hardware
                raise ConfigError(
                    f"hydra.sweeper.n_jobs={self.n_jobs}: hardware={hardware} runs one job at a time; "
                    "hardware=cpu_parallel has workers"
                )
            return 1
        if self.n_jobs:
            return self.n_jobs
        if hasattr(launcher, "slots"):
            return int(launcher.slots())
        jobs = OmegaConf.select(self.config, "hardware.jobs", default=1)
        return cores() if jobs == -1 else jobs

    def _composed(self, fixed: dict[str, Any], deleted: Sequence[str], trial: FrozenTrial) -> DictConfig:
        """The config of a trial's job, which may have begun by another command: its own values hold."""
        own = {key: value for key, value in trial.user_attrs.items() if _shapes(key)}
        overrides = [f"{key}={value}" for key, value in {**fixed, **own, **trial.params}.items()]
        return self.context.config_loader.load_sweep_config(self.config, [*overrides, *deleted])

    def _job_overrides(
        self, space: Space, fixed: dict[str, Any], deleted: list[str], trial: Trial
    ) -> Sequence[str]:
        try:
            return self._configure_trials([trial], dict(space), fixed, deleted)[0]
        except ValueError as error:  # Optuna's, of a study that has the same param with other choices
            raise ConfigError(
                f"the study does not take this search ({error}); give another search.study"
            ) from error


def _shapes(key: str) -> bool:
    """Whether an attribute of a trial is a fixed param that shapes its job; kdsweep's own are not."""
    return not key.startswith("kdsweep.") and re.split(r"[./@]", key.lstrip("+"))[0] not in APART


def plain(config: Any, resolve: bool = True) -> dict[str, Any]:
    """A mapping of the config without OmegaConf."""
    values = OmegaConf.to_container(config, resolve=resolve)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def make_sampler(
    recipe: dict[str, Any], grid: Mapping[str, Sequence[Any]] | None, number: int
) -> BaseSampler:
    """The sampler of one trial, whose seed is its own: so workers do not all draw the same, and a search that
    was interrupted goes on as if it had not been."""
    seed = recipe.get("seed")
    in_sequence = recipe["_target_"].endswith(("QMCSampler", "GridSampler"))  # which the seed shuffles once
    own = seed if seed is None or in_sequence else seed + number
    try:
        sampler = instantiate({**recipe, "seed": own}, _execution_whitelist_=SAMPLERS)
    except ModuleNotFoundError as error:
        raise ConfigError(f"{recipe['_target_']} needs {error.name}: pip install {error.name}") from error
    made: BaseSampler = sampler(grid) if grid else sampler
    return made
