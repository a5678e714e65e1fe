"""The experiment of the runs, and the runs of dead processes in it."""

from collections.abc import Iterable
from pathlib import Path
from socket import gethostname

from filelock import FileLock

from kdsweep.config import Tracking
from kdsweep.store.store import Store
from kdsweep.system.liveness import left_behind
from kdsweep.system.signals import uninterrupted
from kdsweep.tracking.client import answering, connect, import_mlflow
from kdsweep.tracking.database import database_file, database_lock, place_database
from kdsweep.tracking.run import KEPT_TAG, LOCK_TAG

ENDS = ("FINISHED", "FAILED", "KILLED")  # of a run; a file cut by a kill has none of these


class Tracker:
    """The experiment of one tracking server or database. Raises KdsweepError if it does not answer."""

    def __init__(self, config: Tracking, store: Store) -> None:
        self.uri = config.uri
        self.locks = store.root / "locks"
        import_mlflow()  # while the database is made
        place_database(self.uri)
        file = database_file(self.uri)
        lock = database_lock(file) if file else FileLock(self.locks / "database.lock")
        with answering(self.uri), lock:  # else processes would race on its migrations
            self._open(config.experiment)

    @uninterrupted()
    def _open(self, experiment: str) -> None:
        self.client = connect(self.uri)
        found = self.client.get_experiment_by_name(experiment)
        if found and found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        self.experiment_id = found.experiment_id if found else self.client.create_experiment(experiment)

    @uninterrupted()
    def close_dead_runs(self) -> None:
        """Close the runs that dead processes of this machine left RUNNING: a living one holds its run's lock.

        They were KILLED, unless a process wrote another end that MLflow did not get.
        Raises KdsweepError if MLflow does not answer.
        """
        with answering(self.uri):
            running = self.client.search_runs([self.experiment_id], "attributes.status = 'RUNNING'")
        for run in running:
            with left_behind(run.data.tags.get(LOCK_TAG, "")) as lock:
                if lock:
                    self._close(run.info.run_id, lock)

    def run_that_kept(self, key: str) -> str | None:
        """A run, in any experiment, whose artifacts have the files of a stage."""
        experiments = [each.experiment_id for each in self.client.search_experiments()]
        found = self.client.search_runs(experiments, f"tags.`{KEPT_TAG}{key}` = 'true'", max_results=1)
        return found[0].info.run_id if found else None

    def kept(self, keys: Iterable[str]) -> set[str]:
        """The stages that any run has kept. Raises KdsweepError if MLflow does not answer."""
        with answering(self.uri):
            return {key for key in keys if self.run_that_kept(key)}

    @uninterrupted()
    def close_children(self, parent: str) -> None:
        """Close the runs that a sweep whose jobs have all ended left RUNNING on other machines.

        Locks of other machines cannot be checked here, so only their sweep may call their runs dead.
        """
        left = f"tags.`mlflow.parentRunId` = '{parent}' and attributes.status = 'RUNNING'"
        for run in self.client.search_runs([self.experiment_id], left):
            host, _, lock = run.data.tags.get(LOCK_TAG, ":").partition(":")
            if host != gethostname():
                self._close(run.info.run_id, Path(lock))

    def _close(self, run_id: str, lock: Path) -> None:
        """Close a run while holding its lock, so that a run that ended meanwhile keeps its end."""
        file = lock.with_suffix(".status")
        status = file.read_bytes().decode(errors="replace") if file.exists() else ""
        with answering(self.uri):
            if self.client.get_run(run_id).info.status == "RUNNING":
                self.client.set_terminated(run_id, status if status in ENDS else "KILLED")
        file.unlink(missing_ok=True)
        lock.unlink(missing_ok=True)
