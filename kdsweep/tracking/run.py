"""One MLflow run, from its beginning to its end."""

import json
import logging
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from kdsweep.errors import KdsweepError, Pruned
from kdsweep.results.events import EpochEnded, Event, StageFinished
from kdsweep.system.liveness import Alive
from kdsweep.system.signals import uninterrupted
from kdsweep.tracking.client import answering, losses, reason
from kdsweep.tracking.database import anywhere

if TYPE_CHECKING:
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    from kdsweep.tracking.tracker import Tracker

log = logging.getLogger(__name__)

LOCK_TAG = "kdsweep.lock"
KEPT_TAG = "kdsweep.kept."  # with a stage's key: the run's artifacts have its files
ERROR_TAG = "kdsweep.error"
ROLE_TAG, SWEEP_TAG = "kdsweep.role", "kdsweep.sweep"  # a sweep or a job; what was swept
CONFIRMS_TAG = "kdsweep.confirms"  # of a job that confirms its sweep's choice with a fresh seed
NUMBER_TAG, SWEPT_TAG = "kdsweep.job", "kdsweep.swept"  # a job's number and, as JSON, swept values
USED_TAG = "kdsweep.stages"  # keys of what a run needs of the store
SECONDS_BETWEEN_FLUSHES = 1.0
SECONDS_BEFORE_ASKING_AGAIN = 60.0
NOTE_WIDTH = 760  # pixels of a picture in a note: MLflow does not scale it
METRICS_PER_BATCH = 1000  # MLflow's limit
FINGERPRINTS = ("fingerprint", "test_fingerprint", "unlabeled_fingerprint")
MOST_CLASSES = 1000  # named in the schema of a data set


class Run:
    """One MLflow run as a context: its state is right however it ends.

    If the tracking server is lost after the start, a warning follows and the job continues; a server that
    returns gets the metrics that it missed. Without tracker, all calls do nothing.
    """

    def __init__(
        self,
        tracker: "Tracker | None",
        name: str = "",
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        self.tracker = tracker
        self.id = ""
        self._silent_until = 0.0  # after MLflow was lost: when to ask it again
        self._metrics: list[tuple[str, float, int, int]] = []
        self._monitor: SystemMetricsMonitor | None = None
        self._seen: set[tuple[str, int]] = set()  # logged roles and epochs
        self._flushed = time.monotonic()
        if tracker:
            self._begin(tracker, name, params or {}, tags or {})

    @uninterrupted()
    def _begin(
        self, tracker: "Tracker", name: str, params: Mapping[str, Any], tags: Mapping[str, str]
    ) -> None:
        from mlflow.entities import Param

        self.client = tracker.client
        self._alive = Alive(tracker.locks, "run")  # before the run exists, so that it always has one
        tags = {**tags, LOCK_TAG: self._alive.text}
        named = [Param(re.sub(r"[^\w\-. :/]", "_", key), str(value)) for key, value in params.items()]
        try:
            with answering(tracker.uri):
                run = self.client.create_run(tracker.experiment_id, run_name=name, tags=tags)
                self.id = run.info.run_id
                self.client.log_batch(self.id, params=named)
            self._monitor = _monitor(self.id, tracker.uri)
        except Exception:  # any error: the run must not stay RUNNING
            self.end("FAILED", "MLflow refused the params")
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            self.end("FINISHED")
        elif isinstance(error, Pruned):
            self.tag(pruned="true")
            self.end("KILLED")
        elif isinstance(error, Exception):
            self.end("FAILED", str(error) or type(error).__name__)
        else:  # Ctrl-C, SIGTERM
            self.end("KILLED")

    def end(self, status: str, why: str | None = None) -> None:
        if self.tracker is None:
            return
        self.ask_again()
        self.flush()
        if why:
            self._try(lambda: self.client.set_tag(self.id, ERROR_TAG, why[:5000]))
        if self.id and not self._try(lambda: self.client.set_terminated(self.id, status)):
            # for the process that finds the run dead
            self._alive.file.with_suffix(".status").write_text(status)
        if self._monitor:
            self._monitor.finish()
        self._alive.end()

    def close_dead_siblings(self) -> None:
        """Close the runs of killed workers: all on this machine, those of this sweep on others."""
        if tracker := self.tracker:
            self._try(tracker.close_dead_runs)
            self._try(lambda: tracker.close_children(self.id))

    def ask_again(self) -> None:
        """Ask MLflow again, though it was lost."""
        self._silent_until = 0.0

    def show(self, event: Event) -> None:
        """Log an epoch's metrics: the student's under plain names, other roles' under `<role>/…`."""
        match event:
            case EpochEnded():
                self._epoch(event.role, event.epoch, event.metrics)
            case StageFinished():  # another job trained some of its epochs, or this one before a kill
                for epoch, metrics in enumerate(event.history, start=1):
                    if (event.role, epoch) not in self._seen:
                        self._epoch(event.role, epoch, metrics)
        if time.monotonic() - self._flushed > SECONDS_BETWEEN_FLUSHES:
            self.flush()

    def _epoch(self, role: str, epoch: int, metrics: Mapping[str, float]) -> None:
        self._seen.add((role, epoch))
        prefix = "" if role == "student" else f"{role}/"
        for name, value in metrics.items():
            self.metric(f"{prefix}{name}", value, epoch)

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

    def tag(self, **tags: str) -> None:
        """Set tags named kdsweep.<name>."""
        from mlflow.entities import RunTag

        named = [RunTag(f"kdsweep.{name}", value) for name, value in tags.items()]
        self._try(lambda: self.client.log_batch(self.id, tags=named))

    def note(self, text: str, picture: Path) -> None:
        """Set the note on the run's page in MLflow: Markdown and a small picture."""
        from PIL import Image

        if picture.exists():
            with tempfile.TemporaryDirectory() as folder, Image.open(picture, formats=["PNG"]) as image:
                image.thumbnail((NOTE_WIDTH, NOTE_WIDTH))
                small = Path(folder) / "note.png"
                image.save(small)
                self.artifact(small)
            text += f"\n\n![{picture.stem}](get-artifact?path={small.name}&run_uuid={self.id})"
        self._try(lambda: self.client.set_tag(self.id, "mlflow.note.content", text))

    def input(self, described: Mapping[str, Any], source: str) -> None:
        """Log the data set of the run, as its result describes it."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        contents = [described[name] for name in FINGERPRINTS if name in described]
        digest = "-".join(each[: 32 // len(contents)] for each in contents)  # of 36 letters at most
        schema = {key: described[key] for key in ("classes", "shape")}
        dataset = Dataset(
            described["name"],
            digest,
            "local",
            json.dumps({"uri": source}),
            json.dumps(schema) if len(described["classes"]) <= MOST_CLASSES else None,
            json.dumps(described["images"]),
        )
        used = DatasetInput(dataset, [InputTag("mlflow.data.context", "training, validation, test")])
        self._try(lambda: self.client.log_inputs(self.id, [used]))

    def artifact(self, file: Path, folder: str | None = None) -> None:
        self._try(lambda: self.client.log_artifact(self.id, str(file), folder))

    def fetch(self, key: str, folder: Path) -> bool:
        """Fetch into `folder` a stage that a run, perhaps elsewhere, has kept; return whether that worked."""
        if self.tracker is None:
            return False
        try:
            run_id = self.tracker.run_that_kept(key)
            if run_id is None:
                return False
            with tempfile.TemporaryDirectory() as temporary:
                fetched = Path(self.client.download_artifacts(run_id, kept_folder(key), temporary))
                shutil.copytree(fetched, folder, dirs_exist_ok=True)
        except losses() as error:
            log.warning(
                "stage %s could not be fetched from MLflow and is trained here: %s", key[:8], reason(error)
            )
            return False
        return True

    def keep(self, key: str, entry: Path) -> None:
        """Log the files of a stage, then the tag that `fetch` looks for."""
        if self._try(lambda: self.client.log_artifacts(self.id, str(entry), kept_folder(key))):
            self._try(lambda: self.client.set_tag(self.id, f"{KEPT_TAG}{key}", "true"))

    def _try(self, call: Callable[[], Any]) -> bool:
        """Make a call; return whether MLflow accepted it."""
        if not self.id or time.monotonic() < self._silent_until:
            return False
        try:
            with uninterrupted():
                call()
        except losses(KdsweepError) as error:
            self._silent_until = time.monotonic() + SECONDS_BEFORE_ASKING_AGAIN
            log.warning("MLflow does not answer, the job continues without it: %s", reason(error))
            return False
        return True


def kept_folder(key: str) -> str:
    """The folder of a stage among a run's artifacts."""
    return f"stages/{key}"


def _monitor(run_id: str, uri: str) -> "SystemMetricsMonitor | None":
    """MLflow's monitor of the machine, started for a run if MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING is true."""
    from mlflow.environment_variables import MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING

    if not MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING.get():
        return None
    try:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        begun = SystemMetricsMonitor(run_id, tracking_uri=anywhere(uri))
        begun.start()
    except losses() as error:
        log.warning("system metrics are not logged (%s); they need pip install psutil", error)
        return None
    return begun
