"""How sure networks are, against how often they are right."""

from collections.abc import Mapping, Sequence
from typing import Any

from kdsweep.analysis.leaderboard import Row
from kdsweep.analysis.measured import figure_of
from kdsweep.report.charts.figures import (
    ALONE,
    TEACHER,
    Section,
    View,
    layout,
    numbered,
    scatter,
    with_interval,
)
from kdsweep.results.result import JobResult

FEWEST = 10  # images of a bin that is drawn: the share of a few says little


def calibration_section(rows: Sequence[Row]) -> Section | None:
    """Reliability diagrams of the best recipe's teacher, student and student alone."""
    best = rows[0]
    traces, said = [], []
    for role, name, line, symbol in (
        ("teacher", "teacher", TEACHER, "diamond"),
        ("scratch", "student alone", ALONE, "square"),
        ("student", "student", {"color": "--student", "dash": "solid"}, "circle"),
    ):
        bins = _bins(best.recipe.jobs, role)
        if not bins:
            continue
        found = figure_of(best.recipe.jobs, role, "calibration_error")
        error = with_interval(found.interval().times(100)) if found else "unknown"
        traces.append(_reliability(f"{name}, ECE {error}", bins, line, symbol))
        said.append(f"{name} {error}")
    if not traces:
        return None
    dotted = {"color": "--quiet", "width": 1, "dash": "dot"}
    diagonal = scatter("lines", "as sure as right", [0, 100], [0, 100], line=dotted)
    x = {"title": {"text": "confidence (%)"}, "range": [0, 103]}
    y = {"title": {"text": "share that is right (%)"}, "range": [0, 103]}
    figure = {"data": [diagonal, *traces], "layout": layout(x, y)}
    view = View(numbered(best), f"Expected calibration error: {', '.join(said)}.", {"Reliability": figure})
    explains = (
        "Test images in 15 bins by how sure the network is of its answer, all seeds of the best recipe "
        f"counted together; a larger point has more images, bins of less than {FEWEST} are left out. Below "
        "the dotted line a network is surer than right, above it less sure."
    )
    return Section("calibration", "Is it as sure as it is right?", explains, [view], "Recipe", square=True)


Bin = tuple[int, float, float]  # images, mean confidence and share that is right, in percent


def _bins(jobs: Sequence[JobResult], role: str) -> list[Bin]:
    """The bins that are drawn, of all seeds together."""
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
    kept = [each for _, each in sorted(summed.items()) if each[0] >= FEWEST]
    return [(n, 100 * sure / n, 100 * right / n) for n, sure, right in kept]


def _reliability(name: str, bins: Sequence[Bin], line: Mapping[str, Any], symbol: str) -> dict[str, Any]:
    counts, x, y = zip(*bins, strict=True)
    sizes = [round(6 + 12 * (count / max(counts)) ** 0.5, 1) for count in counts]
    text = [
        f"{name.split(',')[0]}<br>{count} images<br>confidence {sure:.2f} %<br>right {right:.2f} %"
        for count, sure, right in bins
    ]
    marker = {"color": line["color"], "symbol": symbol, "size": sizes}
    return scatter("lines+markers", name, x, y, text, line={**line, "width": 1.6}, marker=marker)
