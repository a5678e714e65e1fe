"""The experiment that runs belong to, and what dead processes left in it."""

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

ENDS = ("FINISHED", "FAILED", "KILLED")  # of a run; a process that was killed while it told of it left none


class Tracker:
    """The experiment of one tracking server or database. Raises KdsweepError if it does not answer."""

    def __init__(self, config: Tracking, store: Store) -> None:
        self.uri = config.uri
        self.locks = store.root / "locks"
        import_mlflow()  # while the database is made
        place_database(self.uri)
        file = database_file(self.uri)
        lock = database_lock(file) if file else FileLock(self.locks / "database.lock")
        with answering(self.uri), lock:  # or processes would race on its migrations
            self._open(config.experiment)

    @uninterrupted()
    def _open(self, experiment: str) -> None:
        self.client = connect(self.uri)
        self.experiment_id = self._experiment(experiment)

    def _experiment(self, name: str) -> str:
        found = self.client.get_experiment_by_name(name)
        if found and found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        return found.experiment_id if found else str(self.client.create_experiment(name))

    @uninterrupted()
    def close_dead_runs(self) -> None:
        """Close what a dead process of this machine left RUNNING: a living one holds its run's lock.

        It was KILLED, unless it only could not tell MLflow how it ended.
        Raises KdsweepError if MLflow does not answer.
        """
        with answering(self.uri):
            running = self.client.search_runs([self.experiment_id], "attributes.status = 'RUNNING'")
        for run in running:
            with left_behind(run.data.tags.get(LOCK_TAG, "")) as lock:
                if lock:
                    self._close(run.info.run_id, lock)

    def run_that_kept(self, key: str) -> str | None:
        """A run among whose artifacts are the files of a stage, whichever experiment it belongs to."""
        experiments = [each.experiment_id for each in self.client.search_experiments()]
        found = self.client.search_runs(experiments, f"tags.`{KEPT_TAG}{key}` = 'true'", max_results=1)
        return found[0].info.run_id if found else None

    def kept(self, keys: Iterable[str]) -> set[str]:
        """Those of stages that a run has kept. Raises KdsweepError if MLflow does not answer."""
        with answering(self.uri):
            return {key for key in keys if self.run_that_kept(key)}

    @uninterrupted()
    def close_children(self, parent: str) -> None:
        """Close what a sweep whose jobs have all ended left RUNNING on other machines.

        Whether a lock is held there cannot be told here, so nobody else may call a run of theirs dead.
        """
        left = f"tags.`mlflow.parentRunId` = '{parent}' and attributes.status = 'RUNNING'"
        for run in self.client.search_runs([self.experiment_id], left):
            host, _, lock = run.data.tags.get(LOCK_TAG, ":").partition(":")
            if host != gethostname():
                self._close(run.info.run_id, Path(lock))

    def _close(self, run_id: str, lock: Path) -> None:
        """With its lock in hand, so that a run which ended meanwhile is not told another end."""
        told = lock.with_suffix(".status")
        status = told.read_bytes().decode(errors="replace") if told.exists() else ""
        with answering(self.uri):
            if self.client.get_run(run_id).info.status == "RUNNING":
                self.client.set_terminated(run_id, status if status in ENDS else "KILLED")
        told.unlink(missing_ok=True)
        lock.unlink(missing_ok=True)
