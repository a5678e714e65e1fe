"""The network to ship: the weights of the best recipe, and the command that exports them."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from kdsweep.analysis.leaderboard import Row, best_jobs
from kdsweep.config.defaults import configured
from kdsweep.results.record import Record
from kdsweep.results.result import JobResult


@dataclass(frozen=True)
class Shipped:
    """A student to ship; `command` is empty if no run is known to have it."""

    title: str
    facts: Sequence[tuple[str, str]]
    command: str


def shipped(records: Sequence[Record], rows: Sequence[Row]) -> list[Shipped]:
    """The best recipe's best seed by validation, for each data set; or its only job."""
    return [_of_job(records, name, job) for name, job in best_jobs(rows).items()]


def _of_job(records: Sequence[Record], dataset: str, job: JobResult) -> Shipped:
    name = job.name or f"job {job.number}"
    facts = [
        ("job", f"{name}, {100 * job.val.accuracy:.2f} % validation accuracy" if job.val else name),
        ("MLflow run", job.run_id or ""),
        ("weights", f"stage:{job.student.key}"),
    ]
    words = ["kdsweep-export", job.run_id or "", "--to", "onnx", "--out", "shipped"]
    uri = _tracking_uri(records, job.run_id)
    command = shlex.join([*words, *(["--tracking-uri", uri] if uri else [])]) if job.run_id else ""
    return Shipped(dataset, [(name, text) for name, text in facts if text], command)


def _tracking_uri(records: Sequence[Record], run_id: str | None) -> str | None:
    """The MLflow that has the run, if it is not the one that `kdsweep-export` uses by default."""
    known = (each.sweep.config for each in records if run_id in (job.run_id for job in each.results))
    uri = next(known, {}).get("tracking", {}).get("uri")
    return None if uri == configured("tracking.uri") else uri
