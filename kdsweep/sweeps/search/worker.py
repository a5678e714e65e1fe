"""A worker of a search: it asks the study for a trial, runs it as a job and reports the outcome, until no
more trials are wanted.

Several workers ask one study, so that none waits for another's trial to end.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from hydra.core.utils import JobReturn, run_job
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict, read_write
from optuna import Study, Trial
from optuna.trial import TrialState

from kdsweep.errors import AskedToLeave, Pruned, explain, without_passwords
from kdsweep.results.events import EpochEnded, Event, StageFinished
from kdsweep.results.result import JobResult
from kdsweep.sweeps.hydra_private import came_to
from kdsweep.sweeps.job import run_job_of_sweep
from kdsweep.sweeps.search.space import Terms, make_sampler
from kdsweep.sweeps.search.trials import ALIVE, ERROR, RUN, SWEEP, Search, counted, is_waiting, tell
from kdsweep.system.liveness import Alive, is_dead
from kdsweep.system.signals import uninterrupted


@dataclass(frozen=True)
class Worker:
    """A launcher calls it as if it were a job, in its own process if there are several workers.

    `parent` is the sign of life of the command, without which a worker ends.
    """

    terms: Terms
    context: HydraContext
    config: DictConfig
    parent: str
    only_again: bool = False  # run only lost trials

    @property
    def search(self) -> Search:
        return self.terms.search

    def __call__(self, composed: DictConfig) -> None:
        study = self.search.open()
        while begun := self._next(study):
            trial, overrides, alive = begun
            try:
                self._run(study, trial, overrides)
            finally:
                alive.end()

    def _next(self, study: Study) -> tuple[Trial, Sequence[str], Alive] | None:
        """A trial and its job's overrides; None if no more are wanted. One worker asks at a time."""
        with uninterrupted(), self.search.lock():
            if is_dead(self.parent) or not self.search.wants_more(study):
                return None
            if self.only_again and not is_waiting(study):
                return None
            earlier = len(counted(study))  # lost trials shift no seed
            study.sampler = make_sampler(self.terms.sampler, self.terms.grid, earlier)
            alive = Alive(self.search.locks, "trial")
            try:
                trial = study.ask(dict(self.terms.space))
                trial.set_user_attr(ALIVE, alive.text)
                trial.set_user_attr(SWEEP, self.search.sweep)
                return trial, self.terms.begin(trial), alive
            except BaseException:  # Ctrl-C too: the trial must not look as if it were running
                alive.end()
                raise

    def _run(self, study: Study, trial: Trial, overrides: Sequence[str]) -> None:
        """Run the trial as a job in a folder of its own, and report its outcome to the study."""
        try:
            values = self._job(trial, overrides)
        except Pruned:
            tell(study, trial, state=TrialState.PRUNED)
        except (AskedToLeave, KeyboardInterrupt, SystemExit):  # the trial is to be tried again
            self.search.give_up(study, study.get_trials(deepcopy=False)[trial.number])
            raise
        except Exception as error:  # any error of a job is its trial's failure, and the search continues
            trial.set_user_attr(ERROR, explain(error))
            tell(study, trial, state=TrialState.FAIL)
        else:
            tell(study, trial, values)

    def _job(self, trial: Trial, overrides: Sequence[str]) -> Any:
        config = self.context.config_loader.load_sweep_config(self.config, list(overrides))
        with read_write(config), open_dict(config):
            config.hydra.job.id, config.hydra.job.num = str(trial.number), trial.number
            _hide_passwords(config)
        watch = Watch(trial, self.terms.monitor) if self.terms.monitor else lambda event: None
        done = run_job(
            hydra_context=self.context,
            task_function=partial(run_job_of_sweep, watch=watch, ended=partial(_note_run, trial)),
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
        return outcome(done)


@uninterrupted()
def _note_run(trial: Trial, result: JobResult) -> None:
    """Note the run, so that a later command that resumes the study can find the trial's result."""
    if result.run_id:
        trial.set_user_attr(RUN, result.run_id)


def _hide_passwords(config: DictConfig) -> None:
    """Hide the passwords: Hydra writes a job's config into its folder, and a job needs no storage."""
    config.search.storage = without_passwords(config.search.storage)
    config.hydra.overrides.task = [without_passwords(each) for each in config.hydra.overrides.task]
    config.hydra.job.override_dirname = without_passwords(config.hydra.job.override_dirname)


def outcome(done: JobReturn) -> Any:
    """A job's return, or raise its error, without Hydra's message on the screen."""
    value = came_to(done)
    if isinstance(value, Exception):
        raise value
    return value


class Watch:
    """Report the student's figure to the study after each epoch; raise Pruned if others do better."""

    def __init__(self, trial: Trial, monitor: str) -> None:
        self.trial, self.monitor = trial, monitor
        self.reported: set[int] = set()

    def __call__(self, event: Event) -> None:
        match event:
            case EpochEnded(role="student"):
                if self._is_hopeless(event):
                    raise Pruned(f"pruned after epoch {event.epoch} of {event.epochs}")
            case StageFinished(role="student"):  # epochs trained before a kill, or by another job
                for epoch, metrics in enumerate(event.history, start=1):
                    self._report(epoch, metrics)

    @uninterrupted()
    def _is_hopeless(self, event: EpochEnded) -> bool:
        self._report(event.epoch, event.metrics)
        return self.trial.should_prune()

    @uninterrupted()
    def _report(self, epoch: int, metrics: Mapping[str, float]) -> None:
        if epoch not in self.reported:
            self.trial.report(metrics[self.monitor], epoch)
        self.reported.add(epoch)
