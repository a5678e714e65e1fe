"""MLflow: runs, params, metrics, artifacts. Nothing else imports mlflow."""

import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from socket import gethostname
from typing import TYPE_CHECKING, Any, Self

from filelock import FileLock

from kdsweep.alive import Alive, left_behind
from kdsweep.config import Tracking
from kdsweep.errors import KdsweepError, Pruned
from kdsweep.store import Store
from kdsweep.training.events import EpochEnded, Event, StageFinished

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

LOCK_TAG = "kdsweep.lock"
KEPT_TAG = "kdsweep.kept."  # and a stage's key: the run has its files among its artifacts
USED_TAG = "kdsweep.stages"  # keys of what a run needs of the store
SECONDS_BETWEEN_FLUSHES = 1.0
SECONDS_BEFORE_ASKING_AGAIN = 60.0
METRICS_PER_BATCH = 1000  # MLflow takes no more at once


class Tracker:
    """The experiment of one tracking server or database. Raises KdsweepError if it does not answer."""

    def __init__(self, config: Tracking, store: Store) -> None:
        self.uri = config.uri
        self.locks = store.root / "locks"
        try:
            with FileLock(self.locks / "database.lock"):  # processes would race on its migrations
                self.client = _client(self.uri)
                self.experiment_id = self._experiment(config.experiment)
        except Exception as error:
            raise _silent(config.uri, error) from error

    def _experiment(self, name: str) -> str:
        found = self.client.get_experiment_by_name(name)
        if found and found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        return found.experiment_id if found else str(self.client.create_experiment(name))

    def close_dead_runs(self) -> None:
        """Close what a dead process of this machine left RUNNING: a living one holds its run's lock.

        It was KILLED, unless it only could not tell MLflow how it ended.
        Raises KdsweepError if MLflow does not answer.
        """
        try:
            for run in self.client.search_runs([self.experiment_id], "attributes.status = 'RUNNING'"):
                with left_behind(run.data.tags.get(LOCK_TAG, "")) as lock:
                    if lock:
                        self._close(run.info.run_id, lock)
        except Exception as error:
            raise _silent(self.uri, error) from error

    def run_that_kept(self, key: str) -> str | None:
        """A run among whose artifacts are the files of a stage, whichever experiment it belongs to."""
        experiments = [each.experiment_id for each in self.client.search_experiments()]
        found = self.client.search_runs(experiments, f"tags.`{KEPT_TAG}{key}` = 'true'", max_results=1)
        return found[0].info.run_id if found else None

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
        if self.client.get_run(run_id).info.status == "RUNNING":
            self.client.set_terminated(run_id, told.read_text() if told.exists() else "KILLED")
        told.unlink(missing_ok=True)
        lock.unlink(missing_ok=True)


def _client(uri: str) -> "MlflowClient":
    """MLflow's client, which would try for minutes (whoever set the variables knows better) and chat."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")
    from mlflow import MlflowClient

    for chatty in ("mlflow", "alembic", "urllib3"):  # after the import, which sets levels of its own
        logging.getLogger(chatty).setLevel(logging.ERROR)
    return MlflowClient(uri)


def runs_of_store(uri: str) -> Iterator[tuple[str, str, list[str], bool]]:
    """Every run's id, name, keys of what it needs of the store, and whether it was deleted.

    Raises KdsweepError if MLflow does not answer; a database that is not there is not made.
    """
    file = uri.removeprefix("sqlite:///").split("?")[0]
    if file != uri and not Path(file).exists():
        raise KdsweepError(f"tracking.uri={uri}: no such database; give --tracking-uri")
    from mlflow.entities import ViewType

    try:
        client = _client(uri)
        for experiment in client.search_experiments(view_type=ViewType.ALL):
            token: str | None = ""
            while token is not None:
                page = client.search_runs(
                    [experiment.experiment_id], "", ViewType.ALL, 1000, None, token or None
                )
                for run in page:
                    tags = run.data.tags
                    keys = tags.get(USED_TAG, tags.get("kdsweep.stage", ""))
                    deleted = "deleted" in (run.info.lifecycle_stage, experiment.lifecycle_stage)
                    yield run.info.run_id, run.info.run_name, keys.split(",") if keys else [], deleted
                token = page.token or None
    except Exception as error:
        raise _silent(uri, error) from error


@lru_cache
def download(tracking: Tracking, uri: str) -> Path:
    """The file of an artifact, runs:/ID/PATH, fetched once. Raises KdsweepError if it is not to be had."""
    from mlflow.artifacts import download_artifacts

    try:
        return Path(download_artifacts(uri, tracking_uri=tracking.uri))
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise KdsweepError(
            f"weights={uri}: tracking.uri={tracking.uri} does not give it ({reason})"
        ) from error


class Run:
    """One MLflow run as a context: its state is true whatever ends it.

    Once it has begun, a tracking server that is lost is said and does not stop the job; should it come back,
    it gets the metrics that it missed. Without tracker, all calls do nothing.
    """

    def __init__(
        self,
        tracker: Tracker | None,
        name: str = "",
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        self.tracker = tracker
        self.id = ""
        self._silent_until = 0.0  # after MLflow was lost: when it is asked again
        self._metrics: list[tuple[str, float, int, int]] = []
        self._seen: set[tuple[str, int]] = set()  # roles and epochs that are logged
        self._flushed = time.monotonic()
        if tracker:
            self._begin(tracker, name, params or {}, tags or {})

    def _begin(self, tracker: Tracker, name: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        self.client = tracker.client
        self._alive = Alive(tracker.locks, "run")  # before the run is there, so that it is never without
        tags = {**tags, LOCK_TAG: self._alive.text}
        try:
            self.id = self.client.create_run(tracker.experiment_id, run_name=name, tags=tags).info.run_id
            named = [Param(re.sub(r"[^\w\-. :/]", "_", key), str(value)) for key, value in params.items()]
            self.client.log_batch(self.id, params=named)
        except Exception as error:
            self.end("FAILED", "MLflow did not take the params")
            raise _silent(tracker.uri, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            self.end("FINISHED")
        elif isinstance(error, Pruned):
            self.tag("pruned", "true")
            self.end("KILLED")
        elif isinstance(error, Exception):
            self.end("FAILED", str(error) or type(error).__name__)
        else:  # Ctrl-C, SIGTERM
            self.end("KILLED")

    def end(self, status: str, reason: str | None = None) -> None:
        if self.tracker is None:
            return
        self.ask_again()
        self.flush()
        if reason:
            self._try(lambda: self.client.set_tag(self.id, "kdsweep.error", reason[:5000]))
        if self.id and not self._try(lambda: self.client.set_terminated(self.id, status)):
            self._alive.file.with_suffix(".status").write_text(status)  # for whoever finds the run dead
        self._alive.end()

    def close_dead_siblings(self) -> None:
        """Close the runs of workers that were killed, here or, being children of this run, elsewhere."""
        tracker = self.tracker
        if tracker is not None:
            self._try(tracker.close_dead_runs)
            self._try(lambda: tracker.close_children(self.id))

    def ask_again(self) -> None:
        """Forget that MLflow was lost."""
        self._silent_until = 0.0

    def show(self, event: Event) -> None:
        """Per-epoch metrics: the student's under their own names, other roles' under `<role>/…`."""
        match event:
            case EpochEnded():
                self._epoch(event.role, event.epoch, event.metrics)
            case StageFinished():
                for epoch, metrics in enumerate(event.history, start=1):
                    if (event.role, epoch) not in self._seen:  # trained by another job, or before a kill
                        self._epoch(event.role, epoch, metrics)
        if time.monotonic() - self._flushed > SECONDS_BETWEEN_FLUSHES:
            self.flush()

    def _epoch(self, role: str, epoch: int, metrics: Mapping[str, float]) -> None:
        self._seen.add((role, epoch))
        for name, value in metrics.items():
            self.metric(_of(role, name), value, epoch)

    def metric(self, name: str, value: float, step: int = 0) -> None:
        self._metrics.append((name, value, round(time.time() * 1000), step))

    def flush(self) -> None:
        from mlflow.entities import Metric

        self._flushed = time.monotonic()
        while self._metrics:
            part = [Metric(*metric) for metric in self._metrics[:METRICS_PER_BATCH]]
            if not self._try(lambda part=part: self.client.log_batch(self.id, metrics=part)):  # type: ignore[misc]
                break
            del self._metrics[: len(part)]

    def tag(self, name: str, value: str) -> None:
        self._try(lambda: self.client.set_tag(self.id, name, value))

    def artifact(self, file: Path, folder: str | None = None) -> None:
        self._try(lambda: self.client.log_artifact(self.id, str(file), folder))

    def fetch(self, key: str, folder: Path) -> bool:
        """Whether a run, of another machine perhaps, had kept the stage and its files are in `folder`."""
        if self.tracker is None or not self.id:
            return False
        try:
            run_id = self.tracker.run_that_kept(key)
            if run_id is None:
                return False
            with tempfile.TemporaryDirectory() as there:
                fetched = Path(self.client.download_artifacts(run_id, _kept(key), there))
                shutil.copytree(fetched, folder, dirs_exist_ok=True)
        except Exception as error:
            log.warning("stage %s cannot be had from MLflow, it is trained here: %s", key[:8], _reason(error))
            return False
        return True

    def keep(self, key: str, entry: Path) -> None:
        """Log the files of a stage, then the tag by which `fetch` finds them."""
        if self._try(lambda: self.client.log_artifacts(self.id, str(entry), _kept(key))):
            self.tag(f"{KEPT_TAG}{key}", "true")

    def _try(self, call: Callable[[], Any]) -> bool:
        """Whether MLflow took it."""
        if not self.id or time.monotonic() < self._silent_until:
            return False
        try:
            call()
        except Exception as error:
            self._silent_until = time.monotonic() + SECONDS_BEFORE_ASKING_AGAIN
            log.warning("MLflow is lost, the job goes on without it: %s", _reason(error))
            return False
        return True


def _kept(key: str) -> str:
    """The folder of a stage among a run's artifacts."""
    return f"stages/{key}"


def _silent(uri: str, error: Exception) -> KdsweepError:
    return KdsweepError(f"tracking.uri={uri}: MLflow does not answer: {_reason(error)}")


def _reason(error: Exception) -> str:
    """The first sentence of MLflow's messages, without the chain of retries."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text.split(" with exception ")[0].split(". ")[0][:300]


def _of(role: str, metric: str) -> str:
    return metric if role == "student" else f"{role}/{metric}"
