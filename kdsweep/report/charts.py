"""The charts over all recipes: a figure against what was swept, and over temperature × alpha."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from kdsweep.report.figures import (
    ALONE,
    DASHES,
    MOST_LINES,
    SYMBOLS,
    TEACHER,
    Axis,
    Figure,
    Section,
    View,
    layout,
    plain,
    rounded,
    shown,
)
from kdsweep.report.leaderboard import Row
from kdsweep.report.picture import AXES, LABELS
from kdsweep.report.statistics import Interval, interval
from kdsweep.result import Result

MOST_CELLS = 400
MOST_NUMBERS = 100  # that stand upon cells
DODGE = 0.012  # of the axis, between lines whose intervals would lie upon each other


@dataclass(frozen=True)
class Metric:
    """A figure of a network as charts show it; `percent` of those that are shares."""

    name: str
    figure: str
    percent: bool
    higher_is_better: bool = True

    def of(self, result: Result, role: str) -> float | None:
        if self.figure == "val/accuracy":
            value = result.networks.get(role, {}).get("val", {}).get(self.figure)
        elif self.figure == "f1" and result.test(role, "f1") is None:
            value = result.test(role, "macro_f1")
        else:
            value = result.test(role, self.figure)
        return None if value is None else value * (100 if self.percent else 1)

    @property
    def unit(self) -> str:
        return f"{self.name} (%)" if self.percent else self.name


def metrics(rows: Sequence[Row]) -> list[Metric]:
    """Those that the students have, test accuracy first."""
    positive = {
        job.networks["student"]["test"].get("positive_class") for row in rows for job in row.recipe.jobs
    }
    f1 = "macro F1" if positive == {None} else f"F1 of {', '.join(map(str, sorted(positive - {None})))}"
    known = [
        Metric("test accuracy", "accuracy", True),
        Metric("validation accuracy", "val/accuracy", True),
        Metric(f"test {f1}", "f1", False),
        Metric("test ROC AUC", "roc_auc", False),
        Metric("test calibration error", "calibration_error", True, higher_is_better=False),
    ]
    return [each for each in known if any(_values(row, each, "student") for row in rows)]


def _values(row: Row, metric: Metric, role: str) -> dict[int, float]:
    """Seed to value."""
    found = {job.seed: metric.of(job, role) for job in row.recipe.jobs}
    return {seed: value for seed, value in found.items() if value is not None}


Place = tuple[Any, Row, Sequence[Result]]  # a value of the axis, with the jobs of a recipe there


def along_section(rows: Sequence[Row], keys: Sequence[str]) -> Section | None:
    """Each metric against each swept key; against the seed where nothing else was swept."""
    axes = _axes(rows, keys)
    if axes:
        explains = (
            "Points are means over the seeds, whiskers their 95 % intervals. Level lines with a band are the "
            "teacher and the student trained alone, the same for every recipe."
        )
    else:
        seeds = {job.seed for row in rows for job in row.recipe.jobs}
        if len(seeds) < 2:
            return None
        axes, explains = (
            ["seed"],
            "Each seed's student beside its teacher and the student trained alone.",
        )
    views = []
    for metric in metrics(rows):
        figures, says = {}, []
        for key in axes:
            figures[f"Against {key.replace('_', ' ')}"], point = _along(rows, metric, key)
            says.append(point)
        views.append(View(metric.name, " ".join(says), figures))
    return Section("swept", "Against what was swept", explains, views, "Show")


def _axes(rows: Sequence[Row], keys: Sequence[str]) -> list[str]:
    """Swept keys with values to compare, the usual ones first."""
    differing = [
        key
        for key in keys
        if key != "seed" and len({str(row.values[key]) for row in rows if key in row.values}) > 1
    ]
    return sorted(differing, key=lambda key: AXES.index(key) if key in AXES else len(AXES))[:6]


def _along(rows: Sequence[Row], metric: Metric, key: str) -> tuple[Figure, str]:
    """The figure, and what it shows in a sentence."""
    points = list(_places(sorted(rows, key=_in_order), key))
    axis = Axis.of(LABELS.get(key, key), [place for place, _, _ in points], log=key == "temperature")
    lines: dict[str, list[tuple[Any, Interval, str]]] = {}
    for place, row, jobs in points:
        values = [value for job in jobs if (value := metric.of(job, "student")) is not None]
        if values:
            others = Result(0, {k: v for k, v in row.values.items() if k != key}).name
            lines.setdefault(others, []).append((place, interval(values), row.label))
    data = [*_compared(points, metric, axis), *_student_lines(lines, axis, metric)]
    figure = {"data": data, "layout": layout(axis.plotly(), metric.unit)}
    return figure, _point_of(lines, metric, key)


def _places(rows: Sequence[Row], key: str) -> Iterable[Place]:
    for row in rows:
        if key == "seed":
            yield from ((job.seed, row, [job]) for job in row.recipe.jobs)
        elif key in row.values:
            yield row.values[key], row, row.recipe.jobs


def _in_order(row: Row) -> list[tuple[bool, Any]]:
    """By the swept values, numbers before words: the order of lines in a legend."""
    values = row.values.values()
    return [(False, v) if isinstance(v, int | float) else (True, str(v)) for v in values]


def _student_lines(
    lines: Mapping[str, Sequence[tuple[Any, Interval, str]]], axis: Axis, metric: Metric
) -> Iterable[dict[str, Any]]:
    if len(lines) > MOST_LINES:  # a search: each trial has values of its own
        lines = {"": [point for points in lines.values() for point in points]}
        mode = "markers"
    else:
        mode = "lines+markers"
    intervals = any(each.half for points in lines.values() for _, each, _ in points)
    for i, (name, points) in enumerate(lines.items()):
        points = sorted(points, key=lambda point: axis.at(point[0]))
        shift = DODGE * (i - (len(lines) - 1) / 2) if intervals else 0
        colour = f"--line{i % len(SYMBOLS)}"
        trace = {
            "type": "scatter",
            "mode": mode,
            "name": plain((name and f"student, {name}") or "student"),
            "x": rounded([axis.at(place, shift) for place, _, _ in points]),
            "y": rounded([each.mean for _, each, _ in points]),
            "text": [_hover(label, each, metric) for _, each, label in points],
            "hoverinfo": "text",
            "line": {"color": colour, "dash": DASHES[i % len(DASHES)], "width": 2},
            "marker": {"color": colour, "symbol": SYMBOLS[(i + i // 6) % len(SYMBOLS)], "size": 9},
        }
        if intervals:
            halves = rounded([each.half or 0 for _, each, _ in points])
            trace["error_y"] = {"array": halves, "color": colour, "thickness": 1.4, "width": 4}
        yield trace


def _hover(label: str, each: Interval, metric: Metric) -> str:
    seeds = f"{each.n} seeds" if each.n > 1 else "one seed"
    return f"{plain(label)}<br>{metric.name} {shown(each.mean, metric.percent, each.half)}<br>{seeds}"


def _compared(points: Sequence[Place], metric: Metric, axis: Axis) -> Iterable[dict[str, Any]]:
    """Teacher and student alone where, for each seed, they are one figure at each place."""
    for role, name, line in (("teacher", "teacher", TEACHER), ("scratch", "student alone", ALONE)):
        at: dict[Any, dict[int, float]] = {}
        unique = True
        for place, _, jobs in points:
            for job in jobs:
                value = metric.of(job, role)
                if value is not None:
                    unique &= at.setdefault(place, {}).setdefault(job.seed, value) == value
        if not at or not unique:
            continue
        everywhere: dict[int, set[float]] = {}
        for by_seed in at.values():
            for seed, value in by_seed.items():
                everywhere.setdefault(seed, set()).add(value)
        if all(len(values) == 1 for values in everywhere.values()):  # level, from end to end
            low, high = axis.ends
            level = interval([value.pop() for value in everywhere.values()])
            yield from _band(name, [low, high], [level, level], line, metric)
        else:
            places = sorted(at, key=axis.at)
            means = [interval(list(at[place].values())) for place in places]
            yield from _band(name, [axis.at(place) for place in places], means, line, metric)


def _band(
    name: str, x: Sequence[float], y: Sequence[Interval], line: Mapping[str, Any], metric: Metric
) -> Iterable[dict[str, Any]]:
    """A line, and its interval as a band around it."""
    if any(each.half for each in y):
        low = [each.mean - (each.half or 0) for each in y]
        high = [each.mean + (each.half or 0) for each in y]
        yield {
            "type": "scatter",
            "mode": "lines",
            "x": rounded([*x, *reversed(x)]),
            "y": rounded([*low, *reversed(high)]),
            "fill": "toself",
            "fillcolor": f"{line['color']}/{8 if name == 'teacher' else 18}",
            "line": {"width": 0},
            "hoverinfo": "skip",
            "showlegend": False,
            "legendgroup": name,
        }
    same = len({each.mean for each in y}) == 1
    half = y[0].half
    yield {
        "type": "scatter",
        "mode": "lines",
        "name": f"{name} {shown(y[0].mean, metric.percent, half)}" if same else name,
        "x": rounded(x),
        "y": rounded([each.mean for each in y]),
        "text": [_hover(name, each, metric) for each in y],
        "hoverinfo": "text",
        "line": {"width": 1.6, **line},
        "legendgroup": name,
    }


def _point_of(lines: Mapping[str, Sequence[tuple[Any, Interval, str]]], metric: Metric, key: str) -> str:
    """Where the mean of all students is highest and lowest along an axis."""
    at: dict[str, list[float]] = {}
    for points in lines.values():
        for place, each, _ in points:
            text = Result(0, {key: place}).shown(key)
            at.setdefault(text, []).append(each.mean)
    means = {place: fmean(values) for place, values in at.items()}
    if len(means) < 2:
        return ""
    highest, lowest = (f(means, key=means.__getitem__) for f in (max, min))
    top, bottom = (shown(means[place], metric.percent) for place in (highest, lowest))
    told = (
        f"is {top} at each"
        if top == bottom
        else f"is highest at {highest} ({top}), lowest at {lowest} ({bottom})"
    )
    return f"By {key.replace('_', ' ')}, the mean {metric.name} of all recipes {told}."


def map_section(rows: Sequence[Row]) -> Section | None:
    """Temperature × alpha: a heat map of a grid, points of a search; None unless both were swept.

    What else was swept is held at the values of the best recipe.
    """
    best = rows[0]
    rest = {k: v for k, v in best.values.items() if k not in ("temperature", "alpha")}
    held = [
        row
        for row in rows
        if {k: v for k, v in row.values.items() if k not in ("temperature", "alpha")} == rest
        and {"temperature", "alpha"} <= row.values.keys()
        and row.dataset == best.dataset
    ]
    temperatures = sorted({row.values["temperature"] for row in held})
    alphas = sorted({row.values["alpha"] for row in held})
    if len(temperatures) < 2 or len(alphas) < 2:
        return None
    cells = len(temperatures) * len(alphas)
    grid = cells <= MOST_CELLS and 2 * len(held) >= cells
    explains = "The colour of a " + ("cell is the mean over its seeds." if grid else "point is its figure.")
    if rest:
        explains += f" All have {Result(0, rest).name}, as the best recipe has."
    views = []
    for metric in metrics(held):
        highest = "highest" if metric.higher_is_better else "lowest"
        values = {
            (row.values["temperature"], row.values["alpha"]): (interval(list(found.values())), row)
            for row in held
            if (found := _values(row, metric, "student"))
        }
        draw = _cells if grid else _cloud
        means = {place: each.mean for place, (each, _) in values.items()}
        top = (max if metric.higher_is_better else min)(means, key=means.__getitem__)
        says = (
            f"{metric.name[0].upper()}{metric.name[1:]} is {highest} at T = {top[0]:.4g}, alpha = {top[1]:.4g}, "
            f"with {shown(means[top], metric.percent)}; all lie between "
            f"{shown(min(means.values()), metric.percent)} and {shown(max(means.values()), metric.percent)}."
        )
        views.append(
            View(metric.name, says, {"Temperature × alpha": draw(values, metric, temperatures, alphas)})
        )
    return Section("map", "Temperature × alpha", explains, views, "Show")


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
        "hovertext": [row(alpha, lambda each, r: _hover(r.label, each, metric)) for alpha in up],
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
        "textfont": {
            "color": ["#000000" if is_light is metric.higher_is_better else "#FFFFFF" for is_light in light]
        },
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
        "text": [_hover(row.label, each, metric) for each, row in values.values()],
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
