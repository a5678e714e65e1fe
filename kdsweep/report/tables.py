"""The files of a report and its tables: a sweep's jobs, best first by validation, their costs, the CSV."""

import csv
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console

from kdsweep.analysis.combine import together
from kdsweep.analysis.conclusions import answer, percent
from kdsweep.analysis.leaderboard import Row, leaderboard, shown_job
from kdsweep.analysis.measured import tested_on
from kdsweep.analysis.metric import Metric
from kdsweep.errors import KdsweepError, explain
from kdsweep.report.charts.chain import chain_chart, has_links
from kdsweep.report.charts.curves import curves
from kdsweep.report.charts.metric import metrics
from kdsweep.report.charts.response import main_charts
from kdsweep.report.note import short
from kdsweep.report.pictures.draw import draw
from kdsweep.results.dataset import counted_images
from kdsweep.results.names import kind_of, link_name, written
from kdsweep.results.record import Record
from kdsweep.results.result import JobResult, Latency
from kdsweep.system.table import Column, Fitting
from kdsweep.system.terminal import console, seconds

log = logging.getLogger(__name__)

FIGURES = ("accuracy", "f1", "macro_f1", "roc_auc", "cross_entropy", "calibration_error", "agreement")
EVERY_COLUMN = 10_000  # characters, beyond any table
Files = dict[str, Callable[[Path], None]]  # functions that write files, by the files' names


def show(record: Record) -> None:
    """Print the table of the finished jobs, the costs of the best or first one, and the sweep's answer."""
    screen = console()
    screen.print()
    rows = leaderboard(record)
    if record.finished:
        screen.print(*_tables(record), "", sep="\n")
    for sentence in answer(record, rows):
        screen.print(sentence, markup=False)
    screen.print()


def write_report(records: Sequence[Record], folder: Path) -> Iterator[Path]:
    """Write the report of sweeps, combined into one; yields each file once it is written, the page first.

    Raises KdsweepError at the end if some files could not be written; the others are complete.
    """
    from kdsweep.report.page import write_page

    record = together(records)
    page: Files = {"report.html": partial(write_page, records)} if record.results else {}
    yield from _write(_csv(record) | page | _pictures(record), folder)


def _write(files: Files, folder: Path) -> Iterator[Path]:
    failed: list[Exception] = []
    folder.mkdir(parents=True, exist_ok=True)
    names: dict[str, list[str]] = {}  # by the reason, one for all where the disk is full
    for name, write in files.items():
        try:
            write(folder / name)
        except Exception as error:  # one file that fails, for whatever reason, must not cost the others
            failed.append(error)
            names.setdefault(explain(error).splitlines()[0], []).append(name)
        else:
            yield folder / name
    if failed:
        reasons = "; ".join(f"{', '.join(of_reason)}: {reason}" for reason, of_reason in names.items())
        raise KdsweepError(reasons) from failed[0]


def _csv(record: Record) -> Files:
    keys = record.sweep.keys
    files: Files = {"sweep.csv": partial(write_csv, [*record.results, *record.confirmations], keys)}
    return files | ({"trials.csv": partial(write_csv, record.trials, keys)} if record.trials else {})


def _pictures(record: Record) -> Files:
    """The table and each picture that has something to show."""
    results, swept = record.finished, record.sweep.keys
    if not results:
        return {}
    rows = leaderboard(record)
    names = {"accuracy": "sweep.png", "f1": "f1.png", "roc_auc": "roc_auc.png"}
    return {
        "sweep.txt": partial(_write_tables, record),
        **{
            names[metric.figure]: partial(_draw_metric, rows, metric, swept)
            for metric in metrics(rows)
            if metric.figure in names
        },
        **_inside(results, shown_job(rows), swept),
    }


def _draw_metric(rows: Sequence[Row], metric: Metric, swept: Sequence[str], file: Path) -> None:
    seeds = len({job.seed for row in rows for job in row.recipe.jobs})
    draw(main_charts(rows, metric, swept), _over(seeds), file)


def _over(seeds: int) -> str:
    return f"mean and 95 % interval over {seeds} seeds and test images" if seeds > 1 else "one seed"


def _write_tables(record: Record, file: Path) -> None:
    with file.open("w", encoding="utf-8", errors="backslashreplace") as stream:
        plain = Console(file=stream, width=EVERY_COLUMN, force_terminal=False, force_jupyter=False)
        plain.print(*_tables(record), sep="\n")


def _tables(record: Record) -> list[Fitting | str]:
    table = sweep_table(record.finished, record.sweep.keys)
    if record.trials:  # compared by recipe; each job is in the CSV
        table = _recipe_table(leaderboard(record))
    tables = [
        table,
        *unlabeled_line(record.finished),
        "",
        *costs(shown_job(leaderboard(record)), record.sweep.latency),
    ]
    for each in tables:
        if isinstance(each, Fitting):
            each.elsewhere = "sweep.txt"
    return tables


def unlabeled_line(results: Sequence[JobResult]) -> list[str]:
    """How many images of each kind there were, if networks learned from some without labels."""
    datasets = [result.dataset for result in results]
    used = any("unlabeled" in data.get("images", {}) for data in datasets)
    return [f"images: {counted_images(datasets)}"] if used else []


def _recipe_table(rows: Sequence[Row]) -> Fitting:
    """A row per recipe, best first by validation; a star marks what is more than chance."""
    heads = ("seeds", "val %", "last epoch", "test %", "vs baseline", "vs tuned kd")
    table = Fitting([Column("", right=False, wraps=True), *map(Column, heads)])
    for row in rows:
        val, last = "", ""
        if row.val:
            lasts = (job.student.history[-1]["val/accuracy"] for job in row.recipe.jobs)
            val, last = f"{100 * row.val.mean:.2f}", f"{100 * fmean(lasts):.2f}"
        accuracies = val, last, percent(row.test)
        versus = short(row.versus_alone), short(row.versus_kd)
        table.add([row.label, str(len(row.seeds)), *accuracies, *versus], "bold" if row.rank == 1 else None)
    return table


def draw_inside(result: JobResult, folder: Path) -> list[Path]:
    """Draw the pictures of one job: its learning curves, and the links of its chain if it has more than two.

    A picture that cannot be drawn gives a warning and no error.
    """
    drawn = []
    try:
        for file in _write(_inside([result], result, []), folder):
            drawn.append(file)
    except KdsweepError as error:
        log.warning("not drawn: %s", error)
    return drawn


def _inside(results: Sequence[JobResult], best: JobResult, swept: Sequence[str]) -> Files:
    title = best.name or "distilled against baseline"
    files: Files = {"curves.png": lambda file: draw([curves([best])], title, file)}
    if has_links(results):
        seeds = len({result.seed for result in results if len(result.chain) > 1})
        files["chain.png"] = lambda file: draw([chain_chart(results, swept)], _over(seeds), file)
    return files


def sweep_table(results: Sequence[JobResult], swept: Sequence[str]) -> Fitting:
    """A row per job, best first by validation, then rows for the other links of chains, ensembles, baselines
    and teachers. Jobs without validation come in the order of the sweep.

    Jobs may share those; a shared row shows the swept values that its jobs have in common. A link that is the
    student of a shorter chain has its row among the jobs.
    """
    versus = {"scratch": Column("vs baseline", worth=4), "teacher": Column("vs teacher", worth=2)}
    versus = {role: column for role, column in versus.items() if role in _roles(results)}
    validated = any(network.val for result in results for network in result.networks.values())
    val = [Column("val %", worth=3)] if validated else []
    figures = (*val, Column("test %"), *versus.values(), Column("time", worth=1))
    table = Fitting([Column("", right=False), *map(Column, swept), *figures, Column("", worth=0)])

    def add(role: str, label: str, sharing: Sequence[JobResult], style: str | None = None) -> None:
        result = sharing[0]
        values = [{written(each.swept.get(key, "")) for each in sharing} for key in swept]
        cells = (
            label,
            *(value.pop() if len(value) == 1 else "" for value in values),
            *result.percentages(role)[0 if validated else 1 :],
            *(_difference(result, role, other) for other in versus),
            *(("", "") if role == "ensemble" else _training(sharing, role)),
        )
        table.add(cells, style)

    for i, result in enumerate(sorted(results, key=JobResult.order)):
        add("student", "student", [result], "bold" if i == 0 and result.val and len(results) > 1 else None)
    students = {result.student.key for result in results}
    for role in sorted(_roles(results) - {"student"}, key=_down_the_table):
        sharing: dict[tuple[str, str], list[JobResult]] = {}
        for result in results:
            if role in result.networks:
                sharing.setdefault((result.networks[role].key, tested_on(result)), []).append(result)
        for (key, _), group in sharing.items():
            if key not in students or role in ("teacher", "scratch"):
                add(role, link_name(role), group, "dim")
    return table


def _roles(results: Sequence[JobResult]) -> set[str]:
    return {role for result in results for role in result.networks}


def _down_the_table(role: str) -> tuple[int, str]:
    """Ensembles come first, then assistants and generations, the baseline, the teacher."""
    last = {"ensemble": 0, "scratch": 2, "teacher": 3}
    return last.get(kind_of(role), 1), role


def costs(result: JobResult, latency: Latency | None) -> list[Fitting | str]:
    """The table of costs and, if it lacks latencies, the reason."""
    measurable = [network for network in result.networks.values() if network.cost.parameters is not None]
    lacking = any(network.cost.latency_ms is None for network in measurable)
    return [cost_table(result), *([f"  latency –: {busy(latency)}"] if lacking else [])]


def cost_table(result: JobResult) -> Fitting:
    """Each link's parameters, FLOPs, size and latency, and by what factor the teacher's are larger."""
    teacher = result.networks["teacher"].cost.known() if "teacher" in result.networks else {}
    columns = [Column(result.name, right=False, wraps=True)]
    for worth, head in ((3, "parameters"), (2, "MFLOPs"), (0, "size, MB"), (1, "latency, ms")):
        columns += [Column(head, worth=worth), *([Column("", worth=worth, style="dim")] if teacher else [])]
    table = Fitting([*columns, Column("test %")])
    formats = {"parameters": "{:,}", "flops": "{:.2f}", "bytes": "{:.2f}", "latency_ms": "{:.2f}"}
    units = {"parameters": 1, "flops": 1e6, "bytes": 1e6, "latency_ms": 1}
    for role in (*result.chain, *({"ensemble"} & result.networks.keys())):
        cost, cells = result.networks[role].cost.known(), []
        for name, form in formats.items():
            if name in cost:
                cells.append(form.format(cost[name] / units[name] if units[name] != 1 else cost[name]))
            else:
                cells.append("–")
            if teacher:
                both = role != "teacher" and name in cost and name in teacher
                cells.append(f"{teacher[name] / max(cost[name], 1e-9):.2f}×" if both else "")
        table.add([link_name(role), *cells, f"{100 * (result.test(role) or 0):.2f}"])
    return table


def write_csv(results: Sequence[JobResult], swept: Sequence[str], file: Path) -> None:
    """Write each job's figures in full precision, or its error."""
    with file.open("w", newline="", encoding="utf-8", errors="backslashreplace") as stream:
        csv.writer(stream).writerows(job_rows(results, swept))


def job_rows(results: Sequence[JobResult], swept: Sequence[str]) -> Iterator[list[Any]]:
    """The names of the columns, then a row per job: its figures in full precision, or its error."""
    extra = [] if "seed" in swept else ["seed"]
    confirms = ["confirms"] if any(result.confirms for result in results) else []
    head = ["job", *swept, *extra, "best_epoch", "val_accuracy", "val_cross_entropy"]
    roles = ["student", *sorted(_roles(results) - {"student"}, key=_down_the_table)]
    for role in roles:
        head += [f"{role}_{figure}" if role != "student" else f"test_{figure}" for figure in FIGURES]
    yield [*head, "seconds", "reused", "run_id", "error", *confirms]
    for result in results:
        student = result.networks.get("student")
        found = student.val if student else None
        val = (found.accuracy, found.cross_entropy) if found else (None, None)
        yield [
            result.number,
            *(result.swept.get(key) for key in swept),
            *([result.seed] if extra else []),
            student.best_epoch if student else None,
            *val,
            *(result.test(role, figure) for role in roles for figure in FIGURES),
            *((student.seconds, student.reused) if student else (None, None)),
            result.run_id,
            result.error,
            *(result.confirms for _ in confirms),
        ]


def _training(sharing: Sequence[JobResult], role: str) -> tuple[str, str]:
    """How long the training took, and whether this sweep did it."""
    reused = all(each.networks[role].reused for each in sharing)
    return seconds(sharing[0].networks[role].seconds), "reused" if reused else "trained"


def _difference(result: JobResult, role: str, other: str) -> str:
    """The difference in points of test accuracy; a teacher is not compared."""
    own, theirs = result.test(role), result.test(other)
    if own is None or theirs is None or role in (other, "teacher"):
        return ""
    return f"{100 * (own - theirs):+.2f}"


def busy(taken: Latency | None) -> str:
    """Why a latency is missing, for people."""
    if not taken:
        return "not measured"
    if taken.ms:
        return "only networks that are known before the first job begins are measured"
    return f"{taken.load:.1f} of {taken.cores} cores were busy with something else"
