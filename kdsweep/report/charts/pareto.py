"""Accuracy against cost, with the Pareto front: the networks that no other beats in both."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from kdsweep.analysis.leaderboard import Row
from kdsweep.analysis.measured import accuracy, tested
from kdsweep.analysis.statistics import Interval
from kdsweep.report.charts.figures import (
    Figure,
    Section,
    View,
    layout,
    plain,
    scatter,
    whiskers,
    with_interval,
)
from kdsweep.results.names import kind_of, link_name
from kdsweep.results.result import JobResult

COSTS = {
    "FLOPs": ("flops", "FLOPs per image"),
    "parameters": ("parameters", "parameters"),
    "latency": ("latency_ms", "latency of one image (ms, one thread)"),
}
STYLES = {
    "student": ("student", "--student", "circle"),
    "scratch": ("baseline", "--alone", "square-open"),
    "teacher": ("teacher", "--teacher", "diamond"),
    "ensemble": ("ensemble", "--line2", "star"),
}
BETWEEN = ("in between", "--line3", "triangle-up")
MOST_WHISKERS = 24


@dataclass(frozen=True)
class Point:
    """The cost and the test accuracy (percent) of a network of one or more recipes, means over the seeds."""

    role: str
    label: str
    cost: dict[str, float]
    test: Interval


def cost_section(rows: Sequence[Row]) -> Section | None:
    """The charts of accuracy against each cost; None if all networks cost the same."""
    points = [point for point in _points(rows) if "flops" in point.cost]  # not of a teacher that is a file
    if len({tuple(point.cost.values()) for point in points}) < 2:
        return None
    views = []
    for name, (key, title) in COSTS.items():
        if not all(key in point.cost for point in points):
            continue
        front = pareto(points, key)
        names = [f"{each.label} ({_amount(each.cost[key])}: {with_interval(each.test)})" for each in front]
        says = (
            f"The Pareto front of test accuracy against {name}, cheapest first: {', '.join(names[:6])}"
            f"{f' and {len(names) - 6} more' if len(names) > 6 else ''}. It compares means only: networks "
            "within each other's intervals may change places with other seeds or test images."
        )
        views.append(View(name, says, {f"Test accuracy against {name}": _figure(points, front, key, title)}))
    explains = "Up and left is better. A multiplication and an addition count as two FLOPs. "
    if "latency" in [view.name for view in views]:
        explains += "The machine that started the sweep measured latency before the first job."
    else:
        explains += "Latency is left out: not every network's was measured."
    return Section("cost", "Accuracy against cost", explains, views, "Against", toggle="Pareto front")


def pareto(points: Sequence[Point], cost: str) -> list[Point]:
    """The points that no other point beats, cheapest first.

    A point beats another one if it is better in cost or accuracy and at least as good in the other.
    """
    front: list[Point] = []
    for point in sorted(points, key=lambda each: (each.cost[cost], -each.test.mean)):
        last = front[-1] if front else None
        level = last and (point.cost[cost], point.test.mean) == (last.cost[cost], last.test.mean)
        if not last or level or point.test.mean > last.test.mean:
            front.append(point)
    return front


def _points(rows: Sequence[Row]) -> Iterable[Point]:
    """Each network once, however many recipes share it; a recipe's student counts as student."""
    seen: set[str] = set()
    for row in rows:
        yield from _point("student", f"student, {row.label}", row.recipe.jobs)
        seen |= {job.student.key for job in row.recipe.jobs}
    roles = dict.fromkeys(role for row in rows for job in row.recipe.jobs for role in job.networks)
    for role in roles:
        for jobs in _sharing(rows, role):
            if not seen.issuperset(keys := {job.networks[role].key for job in jobs}):
                seen |= keys
                yield from _point(role, f"{link_name(role)}, {jobs[0].networks[role].name}", jobs)


def _sharing(rows: Sequence[Row], role: str) -> list[list[JobResult]]:
    """The jobs of each network in a role, one per seed; recipes with the same networks by seed share one."""
    groups: list[dict[int, JobResult]] = []
    for row in sorted(rows, key=lambda row: -len(row.recipe.jobs)):
        jobs = {job.seed: job for job in row.recipe.jobs if role in job.networks}
        for group in groups:
            both = group.keys() & jobs.keys()
            if both and all(group[i].networks[role].key == jobs[i].networks[role].key for i in both):
                group.update(jobs)
                break
        else:
            groups += [jobs] if jobs else []
    return [list(group.values()) for group in groups]


def _point(role: str, label: str, jobs: Sequence[JobResult]) -> Iterable[Point]:
    found = tested(jobs, role)
    if found:
        costs = [job.networks[role].cost.known() for job in jobs]
        known = [key for key in costs[0] if all(key in cost for cost in costs)]
        cost = {key: fmean(cost[key] for cost in costs) for key in known}
        yield Point(role, label, cost, accuracy(found).interval().times(100))


def _figure(points: Sequence[Point], front: Sequence[Point], key: str, title: str) -> Figure:
    costs = [point.cost[key] for point in points]
    log = min(costs) > 0 and max(costs) > 5 * min(costs)
    places = [each.cost[key] for each in front], [each.test.mean for each in front]
    line = {"color": "--line1", "width": 2, "shape": "hv", "dash": "dot"}
    data = [scatter("lines", "Pareto front", *places, meta="toggle", line=line)]
    outline = {"color": "--ground", "width": 1}
    styles = {point.role: STYLES.get(kind_of(point.role), BETWEEN) for point in points}
    for style in (*STYLES.values(), BETWEEN):
        if style not in styles.values():
            continue
        name, colour, symbol = style
        group = [point for point in points if styles[point.role] == style]
        places = [point.cost[key] for point in group], [point.test.mean for point in group]
        marker = {"color": colour, "symbol": symbol, "size": 10, "line": outline}
        intervals = [point.test for point in group] if len(points) <= MOST_WHISKERS else []
        text = [_hover(point, key) for point in group]
        data.append(scatter("markers", name, *places, text, marker=marker, **whiskers(intervals, colour)))
    x: dict[str, Any] = {"title": {"text": title}, "type": "log" if log else "linear", "zeroline": False}
    if log:
        x |= {"dtick": "D2" if max(costs) < 100 * min(costs) else 1}
    return {"data": data, "layout": layout(x, "test accuracy (%)")}


def _hover(point: Point, key: str) -> str:
    unit = {"latency_ms": "ms", "flops": "FLOPs"}.get(key, key)
    cost = f"{_amount(point.cost[key])} {unit}"
    return f"{plain(point.label)}<br>test accuracy {with_interval(point.test)}<br>{cost}"


def _amount(value: float) -> str:
    """12.3 M, 674 k, 0.22: three digits."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g}"
