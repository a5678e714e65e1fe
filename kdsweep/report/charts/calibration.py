"""Calibration: how confident networks are, against how often they are right."""

from collections.abc import Mapping, Sequence
from typing import Any

from kdsweep.analysis.leaderboard import Row
from kdsweep.analysis.measured import figure_of
from kdsweep.report.charts.figures import (
    BASELINE,
    MOST_LOOKED_INTO,
    TEACHER,
    Section,
    View,
    layout,
    looked_into,
    numbered,
    only_some,
    scatter,
    with_interval,
)
from kdsweep.results.result import JobResult

FEWEST = 10  # images of a bin that is drawn: a share of fewer means little


def calibration_section(rows: Sequence[Row]) -> Section | None:
    """Reliability diagrams of teacher, baseline and student: the best recipe's, or each one's if none is the
    best."""
    views = [view for row in looked_into(rows) if (view := _view(row))]
    if not views:
        return None
    explains = (
        "The test images of all seeds of the recipe, in 15 bins by the network's confidence in its answer. "
        f"A larger point has more images; bins of fewer than {FEWEST} are left out. Below the dotted line a "
        "network is overconfident, above it underconfident."
    )
    if not rows[0].rank:
        explains += only_some(rows, MOST_LOOKED_INTO)
    return Section("calibration", "Calibration", explains, views, "Recipe", square=True)


def _view(row: Row) -> View | None:
    traces, errors = [], []
    for role, name, line, symbol in (
        ("teacher", "teacher", TEACHER, "diamond"),
        ("scratch", "baseline", BASELINE, "square"),
        ("student", "student", {"color": "--student", "dash": "solid"}, "circle"),
    ):
        bins = _bins(row.recipe.jobs, role)
        if not bins:
            continue
        found = figure_of(row.recipe.jobs, role, "calibration_error")
        error = with_interval(found.interval().times(100)) if found else "unknown"
        traces.append(_reliability(f"{name}, ECE {error}", bins, line, symbol))
        errors.append(f"{name} {error}")
    if not traces:
        return None
    dotted = {"color": "--quiet", "width": 1, "dash": "dot"}
    diagonal = scatter("lines", "calibrated", [0, 100], [0, 100], line=dotted)
    x = {"title": {"text": "confidence (%)"}, "range": [0, 103]}
    y = {"title": {"text": "share of right answers (%)"}, "range": [0, 103]}
    figure = {"data": [diagonal, *traces], "layout": layout(x, y)}
    return View(numbered(row), f"Expected calibration error: {', '.join(errors)}.", {"Reliability": figure})


Bin = tuple[int, float, float]  # images, mean confidence and share that is right, in percent


def _bins(jobs: Sequence[JobResult], role: str) -> list[Bin]:
    """The bins to draw, of all seeds together."""
    summed: dict[int, tuple[int, float, float]] = {}
    for job in jobs:
        evaluation = job.evaluation(role)
        found = evaluation.calibration if evaluation else None
        if not found:
            continue
        bins = zip(found.count, found.confidence, found.accuracy, strict=True)
        for i, (count, confidence, accuracy) in enumerate(bins):
            if count and confidence is not None and accuracy is not None:
                n, sure, right = summed.get(i, (0, 0.0, 0.0))
                summed[i] = n + count, sure + count * confidence, right + count * accuracy
    large = [entry for _, entry in sorted(summed.items()) if entry[0] >= FEWEST]
    return [(n, 100 * sure / n, 100 * right / n) for n, sure, right in large]


def _reliability(name: str, bins: Sequence[Bin], line: Mapping[str, Any], symbol: str) -> dict[str, Any]:
    counts, x, y = zip(*bins, strict=True)
    sizes = [round(6 + 12 * (count / max(counts)) ** 0.5, 1) for count in counts]
    text = [
        f"{name.split(',')[0]}<br>{count} images<br>confidence {sure:.2f} %<br>right {right:.2f} %"
        for count, sure, right in bins
    ]
    marker = {"color": line["color"], "symbol": symbol, "size": sizes}
    return scatter("lines+markers", name, x, y, text, line={**line, "width": 1.6}, marker=marker)
