"""Temperature × alpha: a heat map of a grid, points of a search."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from kdsweep.report.leaderboard import Row
from kdsweep.report.page.figures import Axis, Figure, Section, View, layout, listed, rounded, shown
from kdsweep.report.page.metric import Metric, hover, metrics, values_of
from kdsweep.report.picture import LABELS
from kdsweep.report.statistics import Interval, interval
from kdsweep.result import Result

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
    chosen = {k: v for k, v in rest.items() if any(row.values.get(k) != v for row in rows)}
    best = "the best recipe" if having[0] is rows[0] else "the best recipe with both"
    told = f" All have {Result(0, chosen).name}, as {best} has." if chosen else ""
    views = []
    for metric in metrics(held):
        highest = "highest" if metric.higher_is_better else "lowest"
        values = {
            (row.values["temperature"], row.values["alpha"]): (interval(list(found.values())), row)
            for row in held
            if (found := values_of(row, metric, "student"))
        }
        draw = _cells if grid else _cloud
        means = [each.mean for each, _ in values.values()]
        low, high = (shown(f(means), metric.percent) for f in (min, max))
        top = high if metric.higher_is_better else low
        places = listed(
            [
                f"(T = {t:.4g}, alpha = {alpha:.4g})"
                for (t, alpha), (each, _) in sorted(values.items(), key=lambda item: item[0])
                if shown(each.mean, metric.percent) == top
            ]
        )
        where = f"is {top} everywhere" if low == high else f"is {highest} at {places}, with {top}"
        between = "" if low == high else f"; all lie between {low} and {high}"
        says = f"{metric.name[0].upper()}{metric.name[1:]} {where}{between}.{told}"
        views.append(
            View(metric.name, says, {"Temperature × alpha": draw(values, metric, temperatures, alphas)})
        )
    return Section("map", "Temperature × alpha", explains, views, "Show")


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
