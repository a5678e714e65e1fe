"""Two swept numbers against each other: a heat map for a grid, points for a search."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import inf
from typing import Any

from kdsweep.analysis.leaderboard import Row
from kdsweep.analysis.metric import Metric
from kdsweep.analysis.statistics import Interval
from kdsweep.report.charts.figures import (
    Axis,
    Figure,
    Section,
    View,
    layout,
    on_cells,
    rounded,
    scatter,
    with_interval,
)
from kdsweep.report.charts.metric import hover, metrics
from kdsweep.results.names import Options, axis_label, is_log, is_number, joined, named, spoken, written

MOST_CELLS = 400
MOST_NUMBERS = 100  # that stand upon cells
LEAST_NUMBERS = 2  # of values along each side


@dataclass(frozen=True)
class Map:
    """Recipes by the values of two keys, the second one upwards; `rest` has their other, common values."""

    across: str
    up: str
    options: Options
    rows: Sequence[Row]
    rest: Mapping[str, Any]

    @property
    def title(self) -> str:
        return f"{spoken(self.across).capitalize()} × {spoken(self.up)}"

    def at(self, row: Row) -> tuple[Any, Any]:
        return row.values[self.across], row.values[self.up]

    def values(self, key: str) -> list[Any]:
        return sorted({row.values[key] for row in self.rows})

    @property
    def cells(self) -> int:
        return len(self.values(self.across)) * len(self.values(self.up))

    @property
    def is_grid(self) -> bool:
        return self.cells <= MOST_CELLS and 2 * len(self.rows) >= self.cells


Cell = tuple[Interval, Row]
Cells = Mapping[tuple[Any, Any], Cell]


def map_section(rows: Sequence[Row]) -> Section | None:
    """The map of the first two options of methods that were swept together; None if there are no two.

    The other swept keys are held at the values of the best recipe that has both: a baseline has neither.
    """
    drawn = _map(rows)
    if drawn is None:
        return None
    what = "cell is the mean over its seeds" if drawn.is_grid else "point is its figure"
    explains = f"The colour of a {what}. Colours do not distinguish neighbours within each other's intervals."
    chosen = {k: v for k, v in drawn.rest.items() if any(row.values.get(k) != v for row in rows)}
    best = f"the {'best' if drawn.rows[0].rank else 'first'} recipe" + (
        "" if drawn.rows[0] is rows[0] else " with both"
    )
    common = f" All have {named(chosen, drawn.options)}, as {best} has." if chosen else ""
    views = []
    for metric in metrics(drawn.rows):
        cells = {
            drawn.at(row): (found, row)
            for row in drawn.rows
            if (found := metric.over(row.recipe.jobs, "student"))
        }
        draw = _cells if drawn.is_grid else _cloud
        says = f"{_range(cells, metric)}{common}"
        views.append(View(metric.name, says, {drawn.title: draw(cells, metric, drawn)}))
    return Section("map", drawn.title, explains, views, "Show")


def _map(rows: Sequence[Row]) -> Map | None:
    """The map of the first two swept numbers of methods that have several values each."""
    options = joined(row.recipe.options for row in rows)
    swept = [key for key in options if any(is_number(row.values.get(key)) for row in rows)]
    for across, up in combinations(swept, 2):
        having = [row for row in rows if {across, up} <= row.values.keys()]
        if having:
            rest = _rest(having[0], across, up)
            held = [row for row in having if _rest(row, across, up) == rest]
            held += _without_one(rows, across, up, rest, held)
            found = Map(across, up, options, held, rest)
            if min(len(found.values(across)), len(found.values(up))) >= LEAST_NUMBERS:
                return found
    return None


def _without_one(
    rows: Sequence[Row], across: str, up: str, rest: Mapping[str, Any], held: Sequence[Row]
) -> list[Row]:
    """Recipes to which one key does not matter, as the temperature with alpha = 1: one per value."""
    found = []
    for absent, present in ((across, up), (up, across)):
        values = sorted({row.values[absent] for row in held})
        for row in rows:
            alike = _rest(row, across, up).items() <= rest.items()
            if absent not in row.values and present in row.values and alike:
                found += [replace(row, values={**row.values, absent: each}) for each in values]
    return found


def _rest(row: Row, across: str, up: str) -> dict[str, Any]:
    return {key: value for key, value in row.values.items() if key not in (across, up)}


def _range(cells: Cells, metric: Metric) -> str:
    """The figure of the best recipe by validation, if one was ranked, and the range of all."""
    low, high = (f((each for each, _ in cells.values()), key=lambda each: each.mean) for f in (min, max))
    lowest, highest = (with_interval(each, metric.percent) for each in (low, high))
    name, between = f"{metric.name[0].upper()}{metric.name[1:]}", f"between {lowest} and {highest}"
    chosen, row = min(cells.values(), key=lambda each: each[1].rank or inf)
    if not row.rank:
        return f"{name} lies {between}."
    best = f"{name} of the best recipe by validation, {row.label}, is {with_interval(chosen, metric.percent)}"
    return f"{best}; all recipes lie {between}."


def _cells(cells: Cells, metric: Metric, drawn: Map) -> Figure:
    across, up = drawn.values(drawn.across), drawn.values(drawn.up)

    def line(y: Any, of: Any) -> list[Any]:
        return [of(*cells[x, y]) if (x, y) in cells else None for x in across]

    trace = {
        "type": "heatmap",
        "x": [written(float(x)) for x in across],
        "y": [written(float(y)) for y in up],
        "z": [rounded(line(y, lambda each, _: each.mean)) for y in up],
        "hovertext": [line(y, lambda each, row: hover(row.label, each, metric)) for y in up],
        "hoverinfo": "text",
        "xgap": 2,
        "ygap": 2,
        **_colours(metric),
    }
    data = [trace, *([_numbers(cells, metric)] if len(cells) <= MOST_NUMBERS else [])]
    titles = [axis_label(key, drawn.options) for key in (drawn.across, drawn.up)]
    x, y = ({"type": "category", "title": {"text": title}} for title in titles)
    return {"data": data, "layout": layout(x, y)}


def _numbers(cells: Cells, metric: Metric) -> dict[str, Any]:
    """The values upon the cells, in black where Cividis is light."""
    low, high = (f(each.mean for each, _ in cells.values()) for f in (min, max))
    shares = [(each.mean - low) / ((high - low) or 1) for each, _ in cells.values()]
    light = [(share if metric.higher_is_better else 1 - share) > 0.5 for share in shares]
    x, y = ([written(float(each)) for each in values] for values in zip(*cells, strict=True))
    texts = [f"{each.mean:.{2 if metric.percent else 3}f}" for each, _ in cells.values()]
    return on_cells(x, y, texts, {"color": ["#000000" if each else "#FFFFFF" for each in light]})


def _cloud(cells: Cells, metric: Metric, drawn: Map) -> Figure:
    x, y = (
        Axis.of(axis_label(key, drawn.options), drawn.values(key), is_log(key, drawn.options))
        for key in (drawn.across, drawn.up)
    )
    marker = {
        "size": 11,
        "color": rounded([each.mean for each, _ in cells.values()]),
        "showscale": True,
        "line": {"color": "--text/40", "width": 1},
        **_colours(metric),
    }
    places = [x.at(value) for value, _ in cells], [y.at(value) for _, value in cells]
    text = [hover(row.label, each, metric) for each, row in cells.values()]
    trace = scatter("markers", "", *places, text, marker=marker)
    return {"data": [trace], "layout": layout(x.plotly(), y.plotly())}


def _colours(metric: Metric) -> dict[str, Any]:
    return {
        "colorscale": "Cividis",
        "reversescale": not metric.higher_is_better,
        "colorbar": {"thickness": 12, "outlinewidth": 0},
    }
