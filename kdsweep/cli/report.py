"""The command `kdsweep-report`: rebuild the report of one or several sweeps from what they left."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdsweep.cli import console
from kdsweep.config.defaults import configured
from kdsweep.system.exits import DONE
from kdsweep.system.terminal import say

if TYPE_CHECKING:
    from kdsweep.results.record import Record

EXAMPLES = """
kdsweep-report multirun/2026-01-31/12-00-00-000000    rebuild a sweep's report in its folder
kdsweep-report kdsweep --out all                      report all sweeps of an MLflow experiment as one
kdsweep-report 3f2a… 9c41…                            report two sweeps, by their run ids in MLflow
"""


def main() -> None:
    """The `kdsweep-report` command. Exit status 0: done, 1: a mistake, 2: interrupted."""
    console.run(_parser(), _run)


def _parser() -> argparse.ArgumentParser:
    description = (
        "Write the report of sweeps: report.html, pictures and a CSV. Several sweeps are reported as one."
    )
    parser = console.parser("kdsweep-report", description, EXAMPLES)
    parser.add_argument(
        "what", nargs="+", metavar="WHAT", help="a sweep's folder, MLflow run, or MLflow experiment"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="where to write (default: the sweep's folder if you name one, else report)",
    )
    parser.add_argument("--tracking-uri", metavar="URI", help="MLflow (default: the config's)")
    parser.add_argument("--json", action="store_true", help="print the answer and the leaderboard as JSON")
    return parser


def _run(options: argparse.Namespace) -> int:
    from kdsweep.analysis.combine import together
    from kdsweep.errors import KdsweepError
    from kdsweep.report.tables import show, write_report
    from kdsweep.system.terminal import relative

    records = _records(options.what, options.tracking_uri or configured("tracking.uri"))
    if options.tracking_uri and all(record.folder for record in records):
        say(
            f"kdsweep-report: --tracking-uri {options.tracking_uri}: is not used, for folders were given",
            sys.stderr,
        )
    record = together(records)
    own = records[0].folder if len(options.what) == 1 else None
    folder = options.out or own or Path("report")
    if folder.exists() and not folder.is_dir():
        raise KdsweepError(f"--out {folder}: is a file; give a folder")
    if not options.json:
        show(record)
    written = []
    for file in write_report(records, folder):
        written.append(file)
        if not options.json:
            print(f"  {relative(file)}")
    if options.json:
        print(json.dumps(_as_json(record, written), indent=1))
    return DONE


def _records(named: list[str], uri: str) -> "list[Record]":
    """Every sweep once. Raises KdsweepError if no job of theirs has ended."""
    from kdsweep.cli.records import read
    from kdsweep.errors import KdsweepError

    records: dict[str, Record] = {}
    for name in named:
        for record in read(name, uri):
            records.setdefault(record.sweep.run_id or name, record)
    if not any(record.results for record in records.values()):
        raise KdsweepError(f"{', '.join(named)}: no job has ended, so there is nothing to report")
    return list(records.values())


def _as_json(record: "Record", written: list[Path]) -> dict[str, Any]:
    from kdsweep.analysis.conclusions import answer
    from kdsweep.analysis.leaderboard import leaderboard
    from kdsweep.analysis.recipes import recipes

    rows = leaderboard(record)
    lost = [job for recipe in recipes(record) for job in recipe.lost]
    return {
        "answer": answer(record, rows),
        "rows": [row.as_dict() for row in rows],
        "confirmation": [row.as_dict() for row in leaderboard(record.confirmation)],
        "lost": [{"job": job.number, "swept": job.swept, "error": job.error, "run_id": job.run_id}
                 for job in lost],
        "files": [str(file) for file in written],
    }  # fmt: skip
