"""The search as a whole: a study that resumes, and workers that ask it themselves."""

import contextlib
import copy
import dataclasses
import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import optuna
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.types import HydraContext
from omegaconf import DictConfig, read_write
from optuna import Study
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from kdsweep.errors import ConfigError, KdsweepError, explain
from kdsweep.results.result import RESULT
from kdsweep.sweeps.confirm import confirm
from kdsweep.sweeps.hydra_private import BASIC_LAUNCHER
from kdsweep.sweeps.job import run_job_of_sweep
from kdsweep.sweeps.launchers.base import ProcessDied, SweepLauncher, jobs_wanted
from kdsweep.sweeps.search.earlier import fetch_earlier
from kdsweep.sweeps.search.outputs import standing, write_report
from kdsweep.sweeps.search.progress import trial_lines
from kdsweep.sweeps.search.space import Terms, read_terms
from kdsweep.sweeps.search.trials import ERROR, counted, failures, is_waiting, open_storage
from kdsweep.sweeps.search.worker import Worker, outcome
from kdsweep.system.liveness import Alive

WORKERS_FOLDERS = ["hydra.sweep.subdir=workers/${hydra.job.num}", "hydra.output_subdir=null"]


def check(config: DictConfig) -> int:
    """How many trials the search of a sweep has. Nothing is run or made.

    Raises ConfigError for mistakes in the search, or if it does not fit the existing study.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    terms = read_terms(config, GlobalHydra.instance().config_loader())
    _check_workers(config)
    terms.check_study()
    return terms.search.n_trials


def search(context: HydraContext, config: DictConfig) -> None:
    """Run trials until the study has as many as wanted. Raises KdsweepError if too many failed."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    terms = read_terms(config, context.config_loader)
    search = terms.search
    study = optuna.create_study(
        study_name=search.study,
        storage=open_storage(search.storage),
        directions=[StudyDirection[each.upper()] for each in terms.directions],
        load_if_exists=True,
    )
    search.give_up_dead(study)

    def composed(trial: FrozenTrial) -> DictConfig:
        return context.config_loader.load_sweep_config(config, terms.overrides(trial))

    trials = counted(study)
    if trials and search.wants_more(study):
        print(f"resuming: {standing(study, search)}", flush=True)
    elif len(trials) >= search.n_trials:
        print(f"the study has its {len(trials)} trials; more with a higher search.n_trials", flush=True)
    alive = Alive(search.locks, "search")
    try:
        _run(study, Worker(terms, context, config, alive.text))
    finally:
        alive.end()
        steps: tuple[Callable[[], None], ...] = (
            functools.partial(fetch_earlier, study, Path(search.sweep), config.tracking.uri),
            functools.partial(write_report, study, search, terms.objectives, composed),
        )
        for step in steps:
            try:
                step()
            except Exception as error:  # any error here would hide how the search ended
                print(f"kdsweep: the report of the search is incomplete: {explain(error)}", file=sys.stderr)
    if search.too_many(failed := failures(study)):
        raise KdsweepError(
            f"{len(failed)} trials failed; of {search.n_trials} search.max_failure_rate="
            f"{search.max_failure_rate:g} allows no more; the last: {failed[-1].user_attrs.get(ERROR)}\n"
            "once that is fixed, give another search.study, or raise search.max_failure_rate to resume"
        )
    if wanted := config.get("confirm"):
        _confirm(wanted, study, terms, context, config)


def _confirm(wanted: int, study: Study, terms: Terms, context: HydraContext, config: DictConfig) -> None:
    """Run the best trial again with fresh seeds, as jobs of a plain sweep."""

    def overrides(number: int) -> list[str]:
        return terms.overrides(study.get_trials(deepcopy=False)[number])

    launcher = Plugins.instance().instantiate_launcher(
        config=config, hydra_context=context, task_function=run_job_of_sweep
    )
    confirm(wanted, Path(terms.search.sweep), overrides, launcher.launch)


def _run(study: Study, worker: Worker) -> None:
    """Let workers run trials. After a process died, unfinished trials run again, one at a time."""
    alone, search = False, worker.terms.search
    while search.wants_more(study):
        before = [trial.state for trial in study.get_trials(deepcopy=False)]
        try:
            returns = _launch(dataclasses.replace(worker, only_again=alone), alone)
        except BaseException:  # Ctrl-C too: its trials would stay RUNNING; it is raised again
            search.give_up_own(study, blame=False)
            raise
        lost = search.give_up_own(study, blame=alone)
        for each in returns:
            with contextlib.suppress(ProcessDied):
                outcome(each)  # raises errors that a worker could not report to the study
        if not lost and before == [trial.state for trial in study.get_trials(deepcopy=False)]:
            raise KdsweepError("search: the workers ended without a trial")
        alone = lost > 0 and is_waiting(study)


def _launch(worker: Worker, alone: bool) -> Sequence[JobReturn]:
    config, search = copy.deepcopy(worker.config), worker.terms.search
    with read_write(config.hydra):
        config.hydra.overrides.hydra = [*config.hydra.overrides.hydra, *WORKERS_FOLDERS]
    launcher = Plugins.instance().instantiate_launcher(
        config=config, hydra_context=worker.context, task_function=worker
    )
    own = launcher if isinstance(launcher, SweepLauncher) else None
    launch = own.launch_once if own else launcher.launch
    count = 1 if alone else min(_workers(own, config), search.n_trials)
    silent = own is not None and not own.prints_here
    with trial_lines(Path(search.sweep), search.n_trials) if silent else contextlib.nullcontext():
        returns: Sequence[JobReturn] = launch([worker.terms.always] * count, initial_job_idx=0)
    for result in Path(search.sweep).glob(f"workers/*/{RESULT}"):  # workers are no jobs
        result.unlink()
    return returns


def _check_workers(config: DictConfig) -> None:
    count = config.hydra.sweeper.n_jobs
    if count < 0:
        raise ConfigError(
            f"hydra.sweeper.n_jobs={count}: must be 0 (as many workers as the hardware has room for) or more"
        )
    if count > 1 and config.hydra.launcher._target_ == BASIC_LAUNCHER:
        hardware = config.hydra.runtime.choices.hardware
        raise ConfigError(
            f"hydra.sweeper.n_jobs={count}: hardware={hardware} runs one job at a time; "
            "hardware=cpu_parallel has workers"
        )


def _workers(own: SweepLauncher | None, config: DictConfig) -> int:
    """hydra.sweeper.n_jobs, or how many jobs the hardware has room for."""
    if config.hydra.launcher._target_ == BASIC_LAUNCHER:
        return 1
    if config.hydra.sweeper.n_jobs:
        return int(config.hydra.sweeper.n_jobs)
    return own.slots() if own else jobs_wanted(config)
