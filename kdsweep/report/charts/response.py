"""Each metric against each swept key: a line per choice of the other keys, beside teacher and baseline."""

from collections.abc import Iterable, Mapping, Sequence
from math import inf
from operator import itemgetter
from typing import Any

from kdsweep.analysis.leaderboard import Row
from kdsweep.analysis.metric import Metric
from kdsweep.analysis.statistics import Interval
from kdsweep.report.charts.figures import (
    BASELINE,
    DASHES,
    MOST_LINES,
    MOST_TICKS,
    SYMBOLS,
    TEACHER,
    Axis,
    Figure,
    Section,
    View,
    layout,
    listed,
    plain,
    scatter,
    shown,
    whiskers,
    with_interval,
)
from kdsweep.report.charts.metric import hover, metrics, unit
from kdsweep.results.names import (
    Options,
    axis_label,
    is_log,
    is_number,
    joined,
    named,
    spoken,
    usual,
    written,
)
from kdsweep.results.result import JobResult

DODGE = 0.012  # of the axis, between lines whose intervals would overlap
COMPARED = {"teacher": "teacher", "scratch": "baseline"}
Place = tuple[float | str, Row, Sequence[JobResult]]  # a value of the axis, with the jobs of a recipe there
Point = tuple[float | str, Interval, str]  # a value of the axis, the figure there, and the recipe's label


def along_section(rows: Sequence[Row], keys: Sequence[str]) -> Section | None:
    """Each metric against each swept key, or against the seed if nothing else was swept."""
    axes = _axes(rows, keys)
    if not axes and len({job.seed for row in rows for job in row.recipe.jobs}) < 2:
        return None
    explains, spread = "Each point is one student.", ""
    if axes and any(len(row.seeds) > 1 for row in rows):
        explains, spread = (
            "Points are means over seeds, whiskers their 95 % intervals over seeds and test images.",
            ", with their intervals as bands",
        )
    axes = axes or ["seed"]
    views = []
    for metric in metrics(rows):
        figures, says = {}, []
        for key in axes:
            figures[f"Against {spoken(key)}"] = along(rows, metric, key)
            says.append(_point_of(rows, metric, key))
        views.append(View(metric.name, " ".join(says), figures))
    drawn = {
        trace.get("legendgroup") for view in views for each in view.figures.values() for trace in each["data"]
    }
    if compared := [f"the {name}" for name in COMPARED.values() if name in drawn]:
        explains += f" Lines without points are {listed(compared)}{spread}."
    return Section("swept", "Accuracy against swept values", explains, views, "Show")


def main_charts(rows: Sequence[Row], metric: Metric, keys: Sequence[str]) -> list[Figure]:
    """The metric against the usual keys that were swept, else against any, else against the seed."""
    axes = _axes(rows, keys)
    chosen = [key for key in usual(_options(rows)) if key in axes] or axes[:1] or ["seed"]
    return [along(rows, metric, key) for key in chosen]


def _options(rows: Sequence[Row]) -> Options:
    return joined(row.recipe.options for row in rows)


def _axes(rows: Sequence[Row], keys: Sequence[str]) -> list[str]:
    """The swept keys that have several values, the usual ones first."""
    first = usual(_options(rows))
    differing = [key for key in keys if key != "seed" and len(_values(rows, key)) > 1]
    return sorted(differing, key=lambda key: first.index(key) if key in first else len(first))[:6]


def _values(rows: Sequence[Row], key: str) -> set[str]:
    return {str(row.values[key]) for row in rows if key in row.values}


def along(rows: Sequence[Row], metric: Metric, key: str) -> Figure:
    """The metric against a key: lines of students and of their ensembles by the other swept values."""
    options = _options(rows)
    points = list(_places(sorted(rows, key=_in_order), key))
    axis = Axis.of(axis_label(key, options), [place for place, _, _ in points], is_log(key, options))
    students, ensembles = (
        _lines(points, metric, role, _others(rows, key), options) for role in ("student", "ensemble")
    )
    complete = any(len(each) == len(axis.values) for each in students.values())
    data = [
        *_compared(points, metric, axis, complete),
        *_drawn("student", students, axis, metric),
        *_drawn("ensemble", ensembles, axis, metric),
    ]
    return {"data": data, "layout": layout(axis.plotly(), unit(metric))}


def _others(rows: Sequence[Row], key: str) -> list[str]:
    """The other keys of which the rows have several values."""
    swept = dict.fromkeys(name for row in rows for name in row.values)  # the best may lack some
    return [other for other in swept if other != key and len(_values(rows, other)) > 1]


def _lines(
    points: Sequence[Place], metric: Metric, role: str, others: Sequence[str], options: Options
) -> dict[str, list[Point]]:
    """The points of a role's networks, by the other swept values."""
    lines: dict[str, list[Point]] = {}
    for place, row, jobs in points:
        if found := metric.over(jobs, role):
            name = named({other: row.values[other] for other in others if other in row.values}, options)
            lines.setdefault(name, []).append((place, found, row.label))
    return lines


def _places(rows: Sequence[Row], key: str) -> Iterable[Place]:
    for row in rows:
        if key == "seed":
            yield from ((job.seed, row, [job]) for job in row.recipe.jobs)
        elif key in row.values:
            yield _place(row.values[key]), row, row.recipe.jobs


def _place(value: Any) -> float | str:
    """A number as it is; any other value, a list too, as text."""
    return value if is_number(value) else str(value)


def _in_order(row: Row) -> list[tuple[bool, Any]]:
    """The order of lines in a legend: by the swept values, numbers before words."""
    values = row.values.values()
    return [(False, v) if isinstance(v, int | float) else (True, str(v)) for v in values]


def _drawn(
    role: str, lines: Mapping[str, Sequence[Point]], axis: Axis, metric: Metric
) -> Iterable[dict[str, Any]]:
    mode = "lines+markers"
    if len(lines) > MOST_LINES:  # a search: each trial has values of its own
        lines, mode = {"": [point for points in lines.values() for point in points]}, "markers"
    intervals = any(each.half for points in lines.values() for _, each, _ in points)
    for i, (name, points) in enumerate(lines.items()):
        points = sorted(points, key=lambda point: axis.at(point[0]))
        shift = DODGE * (i - (len(lines) - 1) / 2) if intervals else 0
        colour, dashes = f"--line{i % len(SYMBOLS)}", DASHES if role == "student" else ("dashdot",)
        yield scatter(
            mode,
            plain(f"{role}, {name}" if name else role),
            [axis.at(place, shift) for place, _, _ in points],
            [each.mean for _, each, _ in points],
            [hover(label, each, metric) for _, each, label in points],
            line={"color": colour, "dash": dashes[i % len(dashes)], "width": 2},
            marker={"color": colour, "symbol": SYMBOLS[(i + i // 6) % len(SYMBOLS)], "size": 9},
            **whiskers([each for _, each, _ in points], colour),
        )


def _compared(
    points: Sequence[Place], metric: Metric, axis: Axis, complete: bool
) -> Iterable[dict[str, Any]]:
    """Teacher and baseline, if each has one figure for each seed and place.

    A line that changes along the axis needs a `complete` line of students; otherwise it would follow another
    key on which the students differ.
    """
    for (role, name), line in zip(COMPARED.items(), (TEACHER, BASELINE), strict=True):
        at: dict[float | str, dict[int, JobResult]] = {}
        unique = True
        for place, _, jobs in points:
            for job in jobs:
                value = metric.of(job, role)
                if value is not None:
                    unique &= metric.of(at.setdefault(place, {}).setdefault(job.seed, job), role) == value
        if not at or not unique:
            continue
        by_seed = {seed: job for jobs_at in at.values() for seed, job in jobs_at.items()}
        levels = {(seed, metric.of(job, role)) for jobs_at in at.values() for seed, job in jobs_at.items()}
        if len(levels) == len(by_seed):  # level, from end to end
            level = _over(metric, by_seed, role)
            low, high = axis.ends
            yield from _band(name, [low, high], [level, level], line, metric)
        elif complete:
            places = sorted(at, key=axis.at)
            means = [_over(metric, at[place], role) for place in places]
            yield from _band(name, [axis.at(place) for place in places], means, line, metric)


def _over(metric: Metric, by_seed: Mapping[int, JobResult], role: str) -> Interval:
    found = metric.over(list(by_seed.values()), role)
    assert found is not None
    return found


def _band(
    name: str, x: Sequence[float], y: Sequence[Interval], line: Mapping[str, Any], metric: Metric
) -> Iterable[dict[str, Any]]:
    """A line with its interval as a band around it."""
    if any(each.half for each in y):
        low = [each.mean - (each.half or 0) for each in y]
        high = [each.mean + (each.half or 0) for each in y]
        colour = f"{line['color']}/{8 if name == 'teacher' else 18}"
        look: dict[str, Any] = {"fill": "toself", "fillcolor": colour, "line": {"width": 0}}
        yield scatter("lines", "", [*x, *reversed(x)], [*low, *reversed(high)], legendgroup=name, **look)
    same = len({each.mean for each in y}) == 1
    label = f"{name} {shown(y[0].mean, metric.percent, y[0].half)}" if same else name
    text = [hover(name, each, metric) for each in y]
    means = [each.mean for each in y]
    yield scatter("lines", label, x, means, text, line={"width": 1.6, **line}, legendgroup=name)


def _point_of(rows: Sequence[Row], metric: Metric, key: str) -> str:
    """How far students differ along an axis, on the line of the best recipe by validation; of the first
    recipe if validation ranked none.

    For a search: the range of the best recipes.
    """
    name, points, others = spoken(key), list(_places(rows, key)), _others(rows, key)
    places = [place for place, _, _ in points]
    if len(set(places)) > MOST_TICKS and all(isinstance(place, int | float) for place in places):
        ranked = [(row.rank, place) for place, row, _ in points if row.rank]
        if not ranked:
            return ""
        best = [place for _, place in sorted(ranked, key=itemgetter(0))][: max(3, len(ranked) // 10)]
        return (
            f"The {len(best)} best recipes by validation have {name} between {written(min(best))} and "
            f"{written(max(best))}; the search tried {written(min(places))} to {written(max(places))}."
        )
    chosen = min((row for _, row, _ in points), key=lambda row: row.rank or inf)
    line = [
        (found, written(place))
        for place, row, jobs in points
        if all(row.values.get(other) == chosen.values.get(other) for other in others)
        and (found := metric.over(jobs, "student"))
    ]
    if len(line) < 2:
        return ""
    (low, at_low), (high, at_high) = (f(line, key=lambda each: each[0].mean) for f in (min, max))
    known = {other: chosen.values[other] for other in others if other in chosen.values}
    kept = named(known, _options(rows))
    which = "best recipe by validation" if chosen.rank else "first recipe"
    on = f" (with {kept}, as in the {which})" if kept else ""
    if shown(low.mean, metric.percent) == shown(high.mean, metric.percent):
        return f"The {metric.name} is {shown(low.mean, metric.percent)} for each {name}{on}."
    lowest, highest = (with_interval(each, metric.percent) for each in (low, high))
    ends = f"{lowest} ({name} {at_low}) to {highest} ({name} {at_high})"
    return f"The {metric.name} ranges from {ends}{on}."
