"""The trials of a study, as all its workers count them.

A trial is lost if its process ended: it is marked FAIL, so that Optuna learns nothing from it, and its
parameters are tried again.
"""

import copy
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from filelock import FileLock
from optuna import Study, load_study
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.storages import BaseStorage, RDBStorage, RetryHeartbeatStaleTrialCallback, get_storage
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, OperationalError, SQLAlchemyError

from kdsweep.errors import ConfigError, without_passwords
from kdsweep.system.files import why_unwritable
from kdsweep.system.liveness import is_dead
from kdsweep.system.signals import uninterrupted
from kdsweep.tracking.database import make_whole

ALIVE, SWEEP, ERROR = "kdsweep.alive", "kdsweep.sweep", "kdsweep.error"  # attributes of trials
RUN = "kdsweep.run"  # and the MLflow run of its job
LOST, KILLED = "kdsweep.lost", "kdsweep.killed"
KILLED_TWICE = "its process was killed twice, probably out of memory"
SECONDS_FOR_A_LOCKED_DATABASE = 60
PRUNERS: dict[str, type[BasePruner]] = {
    "none": NopPruner,
    "median": MedianPruner,
    "successive_halving": SuccessiveHalvingPruner,
    "hyperband": HyperbandPruner,
}


@dataclass(frozen=True)
class Search:
    """The settings that parent and workers share."""

    study: str
    storage: str
    pruner: str
    sweep: str  # the folder of this sweep
    locks: Path
    n_trials: int
    max_failure_rate: float

    def open(self) -> Study:
        storage = open_storage(self.storage)
        return load_study(study_name=self.study, storage=storage, pruner=PRUNERS[self.pruner]())

    def existing(self) -> Study | None:
        """The study if it exists; nothing is made. Raises ConfigError if the storage cannot be used."""
        if (file := _file(self.storage)) and not file.exists():
            if not file.parent.is_dir():
                raise _not_opened(self.storage, f"no such folder: {file.parent}")
            if why := why_unwritable(file.parent):
                raise _not_opened(self.storage, f"{file}: {why}")
            return None
        storage = open_storage(self.storage)
        try:
            return load_study(study_name=self.study, storage=storage)
        except KeyError:
            return None

    def lock(self) -> FileLock:
        """The lock of asking for a trial, so that there are never more than n_trials."""
        return FileLock(self.locks / f"study-{self.study}.lock")

    def wants_more(self, study: Study) -> bool:
        """Whether another trial is to begin beside those that are done or under way."""
        return len(counted(study)) < self.n_trials and not self.too_many(failures(study))

    def too_many(self, failed: list[FrozenTrial]) -> bool:
        return len(failed) > self.max_failure_rate * self.n_trials

    def give_up_dead(self, study: Study) -> None:
        """Queue the trials of dead processes again."""
        with self.lock():  # a trial that begins has no sign of life yet
            for trial in _running(study):
                if ALIVE not in trial.user_attrs or is_dead(trial.user_attrs[ALIVE]):
                    reason = KILLED_TWICE if KILLED in trial.user_attrs else None
                    self.give_up(study, trial, reason, killed=True)

    def give_up_own(self, study: Study, blame: bool) -> int:
        """After this sweep's workers have ended, give up the trials that they left running; their number.

        With `blame` such a trial has failed: it ran again, alone, and its process was killed again.
        """
        with self.lock():
            own = [each for each in _running(study) if each.user_attrs.get(SWEEP, self.sweep) == self.sweep]
            for trial in own:
                self.give_up(study, trial, KILLED_TWICE if blame else None)
                is_dead(trial.user_attrs.get(ALIVE, ""))  # removes its sign of life
        return len(own)

    @uninterrupted()
    def give_up(
        self, study: Study, trial: FrozenTrial, reason: str | None = None, killed: bool = False
    ) -> None:
        """End a trial that is still running: as failed for a `reason`, else to be tried again.

        A trial whose process was `killed` is marked: twice is enough.
        """
        if not reason:
            attributes = {
                key: value for key, value in trial.user_attrs.items() if key not in (ALIVE, SWEEP, RUN)
            }
            again = copy.copy(trial)
            again.user_attrs = attributes | ({KILLED: True} if killed else {})
            with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
                RetryHeartbeatStaleTrialCallback()(study, again)
        storage = open_storage(self.storage)  # a study cannot reach a trial of another process
        own = storage.get_study_id_from_name(self.study)
        number = storage.get_trial_id_from_study_id_trial_number(own, trial.number)
        storage.set_trial_user_attr(number, *((ERROR, reason) if reason else (LOST, True)))
        tell(study, trial.number, state=TrialState.FAIL)


@uninterrupted()
def tell(study: Study, trial: Trial | int, values: Any = None, state: TrialState | None = None) -> None:
    """Optuna's `tell`, which no interrupt cuts short."""
    study.tell(trial, values, state)


def counted(study: Study) -> list[FrozenTrial]:
    """The trials that are done or under way, without lost ones."""
    trials = study.get_trials(deepcopy=False)
    return [each for each in trials if each.state != TrialState.WAITING and LOST not in each.user_attrs]


def failures(study: Study) -> list[FrozenTrial]:
    """The trials that failed by themselves."""
    return [each for each in counted(study) if each.state == TrialState.FAIL]


def is_waiting(study: Study) -> bool:
    """Whether trials are queued to run again."""
    return bool(study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))


def open_storage(url: str) -> BaseStorage:
    """Open the storage. Raises ConfigError if that fails.

    The process keeps one storage, whose cache reads each finished trial once.
    """
    return _open_storage(url, Path.cwd())


@lru_cache
def _open_storage(url: str, folder: Path) -> BaseStorage:
    try:
        try:
            return _storage(url)
        except (IntegrityError, OperationalError):  # another program was making the tables too
            return _storage(url)
    except (SQLAlchemyError, ImportError, OSError, ValueError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise _not_opened(url, reason) from error


def _not_opened(url: str, reason: str) -> ConfigError:
    line = without_passwords(f"search.storage={url}: cannot be opened ({reason})")
    return ConfigError(f"{line}; give a URL such as sqlite:///optuna.db")


def _file(url: str) -> Path | None:
    """The file of an SQLite database, None for any other storage."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise _not_opened(url, "it is no URL") from None
    if parsed.get_backend_name() != "sqlite":
        return None
    if parsed.database in (None, "", ":memory:"):
        raise _not_opened(url, "it is in memory, where workers cannot find it")
    return Path(str(parsed.database))


def _storage(url: str) -> BaseStorage:
    file = _file(url)
    if file is None:
        return get_storage(url)
    if not file.exists():  # make it whole, or workers and dashboards would make tables meanwhile
        make_whole(file, lambda new: RDBStorage(f"sqlite:///{new}").engine.dispose())
    connecting = {"connect_args": {"timeout": SECONDS_FOR_A_LOCKED_DATABASE}}
    return get_storage(RDBStorage(url, engine_kwargs=connecting))  # it caches finished trials


def _running(study: Study) -> Iterable[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
