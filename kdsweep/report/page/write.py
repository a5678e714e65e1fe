"""The report of a sweep as one HTML page, which opens from the disk, offline, without any other file."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from kdsweep.analysis.combine import together
from kdsweep.analysis.conclusions import answer
from kdsweep.analysis.leaderboard import Row, leaderboard
from kdsweep.analysis.recipes import recipes
from kdsweep.report.charts.calibration import calibration_section
from kdsweep.report.charts.confusion import confusion_section
from kdsweep.report.charts.curves import curves_section
from kdsweep.report.charts.figures import COLOURS, Section
from kdsweep.report.charts.heatmap import map_section
from kdsweep.report.charts.pareto import cost_section
from kdsweep.report.charts.response import along_section
from kdsweep.report.page.best_model import shipped
from kdsweep.report.page.tables import leaderboard_table, links_table, times
from kdsweep.results.dataset import counted_images
from kdsweep.results.record import Record
from kdsweep.results.result import INTERRUPTED, PRUNED, JobResult


@dataclass(frozen=True)
class Origin:
    """Where a sweep comes from: short `facts`, and the command and the config for copying."""

    title: str
    command: str
    config: str
    facts: Sequence[tuple[str, str]]
    versions: Sequence[tuple[str, str]]


def write_page(records: Sequence[Record], file: Path) -> None:
    """Write the page of one sweep, or of several combined. Empty sections are left out."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    record = together(records)
    rows = leaderboard(record)
    lost = [job for recipe in recipes(record) for job in recipe.lost]
    sections = _sections(record, rows)
    charts = {
        section.id: [
            {
                "says": tied(view.says),
                "figures": [{"heading": heading, **figure} for heading, figure in view.figures.items()],
            }
            for view in section.views
        ]
        for section in sections
    }
    environment = Environment(
        loader=PackageLoader("kdsweep.report.page", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    def verbatim(name: str) -> Markup:  # the page's own files
        return Markup(Path(__file__).with_name(name).read_text("utf-8"))

    environment.filters["tied"] = tied
    page = environment.get_template("page.html.jinja").render(
        title=_title(record),
        summary=_summary(records, record),
        answer=answer(record, rows),
        shipped=shipped(records, rows),
        leaderboard=leaderboard_table(rows, record.sweep.keys) if rows else None,
        ranked=any(row.rank for row in rows),
        unranked=any(row.rank is None for row in rows),
        several_seeds=any(len(row.seeds) > 1 for row in rows),
        failed=[job for job in lost if job.error not in (INTERRUPTED, PRUNED)],
        interrupted=[job for job in lost if job.error == INTERRUPTED],
        pruned=sum(job.error == PRUNED for job in lost),
        sections=sections,
        links=links_table(rows),
        times=times(record.results) if rows else None,
        origins=[_origin(each) for each in records],
        colours=COLOURS,
        style=verbatim("page.css"),
        script=verbatim("page.js"),
        plotly=Markup(get_plotlyjs() if charts else ""),
        charts=Markup(embedded({"charts": charts, "colours": COLOURS})),
    )
    # names of files that are not UTF-8 contain halves of characters
    file.write_text(page, encoding="utf-8", errors="backslashreplace")


def embedded(data: Any) -> str:
    """JSON that is safe inside a <script>, whatever its texts are."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")


def tied(text: str) -> str:
    """Text whose lines do not break between a number and its interval or unit."""
    return text.replace(" ± ", "\u00a0±\u00a0").replace(" %", "\u00a0%").replace(" = ", "\u00a0=\u00a0")


def _sections(record: Record, rows: Sequence[Row]) -> list[Section]:
    """The sections of charts; each data set has its own views, for they cannot be compared."""
    makers: Sequence[Callable[[Sequence[Row]], Section | None]] = (
        lambda rows: along_section(rows, record.sweep.keys),
        map_section,
        cost_section,
        curves_section,
        confusion_section,
        calibration_section,
    )
    names = list(dict.fromkeys(row.dataset for row in rows))
    sections = []
    for make in makers:
        by_name = [(name, make([row for row in rows if row.dataset == name])) for name in names]
        found = [(name, section) for name, section in by_name if section]
        if len(names) > 1:
            views = [
                replace(view, name=f"{view.name}, {name}")
                for name, section in found
                for view in section.views
            ]
            sections += [replace(section, views=views) for _, section in found[:1]]
        else:
            sections += [section for _, section in found]
    return sections


def _title(record: Record) -> str:
    """The students, their teachers and the data."""
    students, teachers, datasets = (_named(record.results, key) for key in ("student", "teacher", "dataset"))
    taught = f"{students} taught by {teachers}" if teachers else students
    return f"{taught or 'A sweep'}{f' on {datasets}' if datasets else ''}"


def _named(results: Iterable[JobResult], key: str) -> str:
    names = list(dict.fromkeys(str(result.recipe[key]) for result in results if key in result.recipe))
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _summary(records: Sequence[Record], record: Record) -> str:
    """The number of jobs, the swept keys, and the time."""
    jobs = len(record.results)
    count = f"{jobs} job{'s' if jobs != 1 else ''}"
    over = ", ".join(key.replace("_", " ") for key in record.sweep.keys)
    sweeps = f"{len(records)} sweeps combined, " if len(records) > 1 else ""
    when = _day(min((each.sweep.began for each in records if each.sweep.began), default=""))
    return f"{sweeps}{count}{f' over {over}' if over else ''}{f' · {when}' if when else ''}"


def _day(began: str) -> str:
    return f"{datetime.fromisoformat(began):%d %B %Y, %H:%M} UTC" if began else ""


def _origin(record: Record) -> Origin:
    from yaml import safe_dump

    sweep, results = record.sweep, record.results
    seeds = sorted({result.seed for result in results if not result.failed})
    facts = [
        ("began", _day(sweep.began)),
        ("jobs", f"{len(record.finished)} of {sweep.jobs} finished"),
        ("seeds", ", ".join(map(str, seeds))),
        *_datasets(results),
        ("MLflow run", sweep.run_id),
    ]
    return Origin(
        title=" ".join(key.replace("_", " ") for key in sweep.keys) or "one job",
        command=sweep.command,
        config=safe_dump(sweep.config, sort_keys=False, allow_unicode=True) if sweep.config else "",
        facts=[(name, text) for name, text in facts if text],
        versions=list(sweep.versions.items()),
    )


def _datasets(results: Iterable[JobResult]) -> Iterable[tuple[str, str]]:
    """Each data set with the digest of its content."""
    known = [result.dataset for result in results if result.dataset.get("fingerprint")]
    for fingerprint in dict.fromkeys(data["fingerprint"] for data in known):
        same = [data for data in known if data["fingerprint"] == fingerprint]
        name, classes = same[0].get("name", ""), len(same[0].get("classes", []))
        yield f"data set {name}", f"{counted_images(same)} images, {classes} classes"
        yield "its fingerprint", fingerprint
