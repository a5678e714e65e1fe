"""The network to ship: the weights of the best recipe, and the command that exports them."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from kdsweep.analysis.leaderboard import Row, best_job
from kdsweep.config.defaults import configured
from kdsweep.results.record import Record


@dataclass(frozen=True)
class Shipped:
    """A student to ship; `command` is empty if no run is known to have it."""

    title: str
    facts: Sequence[tuple[str, str]]
    command: str


def shipped(records: Sequence[Record], rows: Sequence[Row]) -> list[Shipped]:
    """The best recipe's best seed by validation, for each data set."""
    return [_of_row(records, row) for row in rows if row.rank == 1]


def _of_row(records: Sequence[Record], row: Row) -> Shipped:
    job = best_job(row)
    name = job.name or f"job {job.number}"
    facts = [
        ("job", f"{name}, {100 * job.val.accuracy:.2f} % validation accuracy"),
        ("MLflow run", job.run_id or ""),
        ("weights", f"stage:{job.student.key}"),
    ]
    words = ["kdsweep-export", job.run_id or "", "--to", "onnx", "--out", "shipped"]
    uri = _tracking_uri(records, job.run_id)
    command = shlex.join([*words, *(["--tracking-uri", uri] if uri else [])]) if job.run_id else ""
    return Shipped(row.dataset, [(name, text) for name, text in facts if text], command)


def _tracking_uri(records: Sequence[Record], run_id: str | None) -> str | None:
    """The MLflow that has the run, if it is not the one that `kdsweep-export` uses by default."""
    known = (each.sweep.config for each in records if run_id in (job.run_id for job in each.results))
    uri = next(known, {}).get("tracking", {}).get("uri")
    return None if uri == configured("tracking.uri") else uri
