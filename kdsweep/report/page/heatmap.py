"""Temperature × alpha: a heat map of a grid, points of a search."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from kdsweep.analysis.leaderboard import Row
from kdsweep.analysis.metric import Metric
from kdsweep.analysis.statistics import Interval
from kdsweep.report.page.figures import Axis, Figure, Section, View, layout, rounded, with_interval
from kdsweep.report.page.metric import hover, metrics
from kdsweep.report.pictures.response import LABELS
from kdsweep.results.result import JobResult

MOST_CELLS = 400
MOST_NUMBERS = 100  # that stand upon cells


def map_section(rows: Sequence[Row]) -> Section | None:
    """Temperature × alpha: a heat map of a grid, points of a search; None unless both were swept.

    What else was swept is held at the values of the best recipe that has both: a student alone has neither.
    A recipe for which all temperatures are one, as with alpha = 1, stands at each.
    """
    having = [row for row in rows if {"temperature", "alpha"} <= row.values.keys()]
    if not having:
        return None
    rest = _rest(having[0])
    held = [row for row in having if _rest(row) == rest]
    temperatures = sorted({row.values["temperature"] for row in held})
    for row in rows:
        if "temperature" not in row.values and "alpha" in row.values and _rest(row).items() <= rest.items():
            held += [replace(row, values={**row.values, "temperature": each}) for each in temperatures]
    alphas = sorted({row.values["alpha"] for row in held})
    if len(temperatures) < 2 or len(alphas) < 2:
        return None
    cells = len(temperatures) * len(alphas)
    grid = cells <= MOST_CELLS and 2 * len(held) >= cells
    explains = "The colour of a " + ("cell is the mean over its seeds." if grid else "point is its figure.")
    explains += " Neighbours that differ by less than their intervals are not told apart by it."
    chosen = {k: v for k, v in rest.items() if any(row.values.get(k) != v for row in rows)}
    best = "the best recipe" if having[0] is rows[0] else "the best recipe with both"
    told = f" All have {JobResult(0, chosen).name}, as {best} has." if chosen else ""
    views = []
    for metric in metrics(held):
        values = {
            (row.values["temperature"], row.values["alpha"]): (found, row)
            for row in held
            if (found := metric.over(row.recipe.jobs, "student"))
        }
        draw = _cells if grid else _cloud
        says = f"{_range(values, metric)}{told}"
        views.append(
            View(metric.name, says, {"Temperature × alpha": draw(values, metric, temperatures, alphas)})
        )
    return Section("map", "Temperature × alpha", explains, views, "Show")


def _range(values: Mapping[tuple[Any, Any], "Cell"], metric: Metric) -> str:
    """The figure of the best by validation, and between which all lie."""
    chosen, row = min(values.values(), key=lambda each: each[1].rank)
    low, high = (f((each for each, _ in values.values()), key=lambda each: each.mean) for f in (min, max))
    at_best, lowest, highest = (with_interval(each, metric.percent) for each in (chosen, low, high))
    name = f"{metric.name[0].upper()}{metric.name[1:]}"
    best = f"{name} of the best by validation, {row.label}, is {at_best}"
    return f"{best}; all lie between {lowest} and {highest}."


def _rest(row: Row) -> dict[str, Any]:
    return {key: value for key, value in row.values.items() if key not in ("temperature", "alpha")}


Cell = tuple[Interval, Row]


def _cells(
    values: Mapping[tuple[Any, Any], Cell], metric: Metric, across: Sequence[Any], up: Sequence[Any]
) -> Figure:
    def row(alpha: Any, of: Any) -> list[Any]:
        return [of(*values[t, alpha]) if (t, alpha) in values else None for t in across]

    trace = {
        "type": "heatmap",
        "x": [f"{t:.4g}" for t in across],
        "y": [f"{alpha:.4g}" for alpha in up],
        "z": [rounded(row(alpha, lambda each, _: each.mean)) for alpha in up],
        "hovertext": [row(alpha, lambda each, r: hover(r.label, each, metric)) for alpha in up],
        "hoverinfo": "text",
        "colorscale": "Cividis",
        "reversescale": not metric.higher_is_better,
        "colorbar": {"thickness": 12, "outlinewidth": 0},
        "xgap": 2,
        "ygap": 2,
    }
    data = [trace, *([_numbers(values, metric)] if len(values) <= MOST_NUMBERS else [])]
    x = {"type": "category", "title": {"text": LABELS["temperature"]}}
    y = {"type": "category", "title": {"text": "alpha"}}
    return {"data": data, "layout": layout(x, y)}


def _numbers(values: Mapping[tuple[Any, Any], Cell], metric: Metric) -> dict[str, Any]:
    """The cells' values upon them, black where Cividis is light."""
    low, high = (f(each.mean for each, _ in values.values()) for f in (min, max))
    shares = [(each.mean - low) / ((high - low) or 1) for each, _ in values.values()]
    light = [(share if metric.higher_is_better else 1 - share) > 0.5 for share in shares]
    return {
        "type": "scatter",
        "mode": "text",
        "x": [f"{t:.4g}" for t, _ in values],
        "y": [f"{alpha:.4g}" for _, alpha in values],
        "text": [f"{each.mean:.{2 if metric.percent else 3}f}" for each, _ in values.values()],
        "textfont": {"color": ["#000000" if each else "#FFFFFF" for each in light]},
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _cloud(
    values: Mapping[tuple[Any, Any], Cell], metric: Metric, across: Sequence[Any], up: Sequence[Any]
) -> Figure:
    axis = Axis.of(LABELS["temperature"], across, log=True)
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": rounded([axis.at(t) for t, _ in values]),
        "y": rounded([alpha for _, alpha in values]),
        "text": [hover(row.label, each, metric) for each, row in values.values()],
        "hoverinfo": "text",
        "showlegend": False,
        "marker": {
            "size": 11,
            "color": rounded([each.mean for each, _ in values.values()]),
            "colorscale": "Cividis",
            "reversescale": not metric.higher_is_better,
            "showscale": True,
            "colorbar": {"thickness": 12, "outlinewidth": 0},
            "line": {"color": "--text/40", "width": 1},
        },
    }
    return {"data": [trace], "layout": layout(axis.plotly(), LABELS["alpha"])}
