"""The table of a sweep, best first by validation, and the same as CSV."""

import csv
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from kdsweep.display import console, relative, seconds
from kdsweep.report.picture import draw_sweep
from kdsweep.result import INTERRUPTED, Result

FIGURES = ("accuracy", "macro_f1", "roc_auc", "cross_entropy", "calibration_error", "agreement")
ROLES = ("student", "scratch", "teacher")


def summarize(results: Sequence[Result], swept: Sequence[str], folder: Path) -> list[Path]:
    """Show the table of the finished jobs, write it, the CSV of all jobs and the picture; the files."""
    files = [folder / "sweep.csv", folder / "sweep.png", folder / "sweep.txt"]
    write_csv(results, swept, files[0])
    finished = [result for result in results if not result.error]
    if not finished:
        return files[:1]
    table, costs = sweep_table(finished, swept), cost_table(ranked(finished)[0])
    draw_sweep(finished, swept, files[1])
    with files[2].open("w") as stream:
        Console(file=stream, width=200).print(table, costs, sep="\n\n")
    screen = console()
    screen.print("", table, "", costs, "", sep="\n")
    for file in files[:2]:
        screen.print(f"  {relative(file)}")
    return files


def sweep_line(result: Result, jobs: int) -> str:
    """The line that a job of a sweep leaves on the screen."""
    if result.error:
        figures = INTERRUPTED if result.error == INTERRUPTED else "failed"
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
    """A row per job; below, the students alone and the teachers that they are compared with.

    Those are shared by jobs, and show the swept values that all of these have in common.
    """
    table = Table(box=None, header_style="bold", pad_edge=False)
    versus = {"scratch": "vs alone", "teacher": "vs teacher"}
    versus = {role: head for role, head in versus.items() if any(role in each.networks for each in results)}
    table.add_column("")
    for head in (*swept, "val %", "test %", *versus.values(), "time", ""):
        table.add_column(head, justify="right")

    def add(role: str, label: str, sharing: Sequence[Result], style: str | None = None) -> None:
        result, network = sharing[0], sharing[0].networks[role]
        values = [{each.shown(key) for each in sharing} for key in swept]
        table.add_row(
            label,
            *(value.pop() if len(value) == 1 else "" for value in values),
            *_accuracies(result, role),
            *(_difference(result, role, other) for other in versus),
            seconds(network["seconds"]),
            "reused" if all(each.networks[role]["reused"] for each in sharing) else "trained",
            style=style,
        )

    for i, result in enumerate(ranked(results)):
        add("student", "student", [result], "bold" if i == 0 and len(results) > 1 else None)
    for role, label in (("scratch", "alone"), ("teacher", "teacher")):
        sharing: dict[str, list[Result]] = {}
        for result in results:
            if role in result.networks:
                sharing.setdefault(result.networks[role]["key"], []).append(result)
        for group in sharing.values():
            add(role, label, group, "dim")
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


def _difference(result: Result, role: str, other: str) -> str:
    """In points of test accuracy; a teacher is not compared."""
    own, theirs = result.test(role), result.test(other)
    if own is None or theirs is None or role in (other, "teacher"):
        return ""
    return f"{100 * (own - theirs):+.2f}"
