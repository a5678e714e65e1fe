"""The table of a sweep, best first by validation, and the same as CSV."""

import csv
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from kdsweep.display import console, relative, seconds
from kdsweep.report.picture import draw_sweep
from kdsweep.result import Result

FIGURES = ("accuracy", "macro_f1", "roc_auc", "cross_entropy", "calibration_error", "agreement")
ROLES = ("student", "scratch", "teacher")


def summarize(results: Sequence[Result], swept: Sequence[str], folder: Path) -> list[Path]:
    """Show the table of the finished jobs, write it, the CSV and the picture; the files."""
    if not results:
        return []
    table, costs = sweep_table(results, swept), cost_table(results[0])
    files = [folder / "sweep.txt", folder / "sweep.csv", folder / "sweep.png"]
    with files[0].open("w") as stream:
        Console(file=stream, width=200).print(table, costs, sep="\n\n")
    write_csv(results, swept, files[1])
    draw_sweep(results, swept, files[2])
    screen = console()
    screen.print("", table, "", costs, "", sep="\n")
    for file in files[1:]:
        screen.print(f"  {relative(file)}")
    return files


def sweep_line(result: Result, jobs: int) -> str:
    """The line that a job of a sweep leaves on the screen."""
    if result.error:
        figures = "failed"
    else:
        student = result.networks["student"]
        first = [role for role, each in result.networks.items() if role != "student" and not each["reused"]]
        how = "reused" if student["reused"] else f"trained in {seconds(student['seconds'])}"
        val, test = _accuracies(result, "student")
        figures = f"val {val} %  test {test} %  {how}" + (f", after {' and '.join(first)}" if first else "")
    return f"[{result.number + 1}/{jobs}] {result.name}  {figures}"


def ranked(results: Sequence[Result]) -> list[Result]:
    """Best first: by validation accuracy, equals by validation cross-entropy."""
    return sorted(results, key=lambda r: (-r.val()["val/accuracy"], r.val()["val/cross_entropy"], r.number))


def sweep_table(results: Sequence[Result], swept: Sequence[str]) -> Table:
    """A row per job, and below them the teacher and the student alone that they are compared with."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in swept or [""]:
        table.add_column(column, justify="right")
    for column in ("val %", "test %", "vs alone", "vs teacher", "time", ""):
        table.add_column(column, justify="right")
    rows = ranked(results)
    for i, result in enumerate(rows):
        student = result.networks["student"]
        table.add_row(
            *([result.shown(key) for key in swept] or ["student"]),
            *_accuracies(result, "student"),
            _difference(result, "scratch"),
            _difference(result, "teacher"),
            seconds(student["seconds"]),
            "reused" if student["reused"] else "trained",
            style="bold" if i == 0 and len(rows) > 1 else None,
            end_section=i == len(rows) - 1,
        )
    for role, name in (("scratch", "alone"), ("teacher", "teacher")):
        for result in {r.networks[role]["key"]: r for r in results if role in r.networks}.values():
            label = f"{name}, seed {result.seed}" if "seed" in swept else name
            labels = [label, *[""] * (len(swept) - 1)]
            network = result.networks[role]
            versus = ("", _difference(result, "teacher", role)) if role == "scratch" else ("", "")
            table.add_row(
                *labels, *_accuracies(result, role), *versus, seconds(network["seconds"]), "", style="dim"
            )
    return table


def cost_table(result: Result) -> Table:
    """Teacher against student: parameters, FLOPs, size, latency, and how many times smaller."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("", "parameters", "MFLOPs", "size, MB", "latency, ms", "test %"):
        table.add_column(column, justify="right")
    shown = [role for role in ("teacher", "student") if role in result.networks]
    for role in shown:
        cost = result.networks[role]["cost"]
        table.add_row(
            role,
            f"{cost['parameters']:,}",
            f"{cost['flops'] / 1e6:.2f}",
            f"{cost['bytes'] / 1e6:.2f}",
            f"{cost['latency_ms']:.2f}",
            f"{100 * (result.test(role) or 0):.2f}",
        )
    if len(shown) == 2:
        teacher, student = (result.networks[role]["cost"] for role in shown)
        ratios = (
            teacher[name] / max(student[name], 1e-9)
            for name in ("parameters", "flops", "bytes", "latency_ms")
        )
        table.add_row("ratio", *(f"{ratio:.2f}×" for ratio in ratios), "", style="dim")
    return table


def write_csv(results: Sequence[Result], swept: Sequence[str], file: Path) -> None:
    """Every job's figures in full precision, failed jobs with their error."""
    extra = [] if "seed" in swept else ["seed"]
    head = ["job", *swept, *extra, "best_epoch", "val_accuracy", "val_cross_entropy"]
    for role in ROLES:
        head += [f"{role}_{figure}" if role != "student" else f"test_{figure}" for figure in FIGURES]
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow([*head, "seconds", "reused", "run_id", "error"])
        for result in results:
            student = result.networks.get("student", {})
            val = student.get("val", {})
            writer.writerow(
                [
                    result.number,
                    *(result.swept.get(key) for key in swept),
                    *([result.seed] if extra else []),
                    student.get("best_epoch"),
                    val.get("val/accuracy"),
                    val.get("val/cross_entropy"),
                    *(result.test(role, figure) for role in ROLES for figure in FIGURES),
                    student.get("seconds"),
                    student.get("reused"),
                    result.run_id,
                    result.error,
                ]
            )


def _accuracies(result: Result, role: str) -> tuple[str, str]:
    return f"{100 * result.val(role)['val/accuracy']:.2f}", f"{100 * (result.test(role) or 0):.2f}"


def _difference(result: Result, other: str, role: str = "student") -> str:
    """In points of test accuracy."""
    own, theirs = result.test(role), result.test(other)
    return "" if own is None or theirs is None else f"{100 * (own - theirs):+.2f}"
