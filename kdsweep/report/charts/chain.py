"""Chains, link by link: test accuracy from the teacher to the student."""

from collections.abc import Sequence

from kdsweep.analysis.measured import accuracy, tested
from kdsweep.analysis.statistics import Interval
from kdsweep.report.charts.figures import (
    BASELINE,
    MOST_LINES,
    SYMBOLS,
    Figure,
    layout,
    plain,
    scatter,
    whiskers,
)
from kdsweep.results.names import link_name, named
from kdsweep.results.result import JobResult


def has_links(results: Sequence[JobResult]) -> bool:
    """Whether there is anything between teacher and student."""
    return any(result.between for result in results)


def chain_chart(results: Sequence[JobResult], swept: Sequence[str]) -> Figure:
    """Test accuracy link by link: a line for each combination of swept values, a star for its ensemble.

    Points are means over seeds with their 95 % intervals. A baseline is a level line.
    """
    groups: dict[str, list[JobResult]] = {}
    chains = [result for result in results if len(result.chain) > 1]
    for result in chains:
        values = {key: result.swept[key] for key in swept if key != "seed" and key in result.swept}
        groups.setdefault(named(values, result.options), []).append(result)
    longest = max((result.chain for result in chains), key=len)
    data = []
    for i, (name, group) in enumerate(list(groups.items())[:MOST_LINES]):
        chain, colour = group[0].chain, f"--line{i % len(SYMBOLS)}"
        intervals = [_accuracy(group, role) for role in chain]
        data.append(
            scatter(
                "lines+markers",
                plain(name or "chain"),
                range(len(chain)),
                [interval.mean for interval in intervals],
                line={"color": colour},
                marker={"color": colour, "symbol": SYMBOLS[i % len(SYMBOLS)]},
                **whiskers(intervals, colour),
            )
        )
        if "ensemble" in group[0].networks:
            star = {"color": colour, "symbol": "star", "size": 16}
            place = [len(chain) - 0.85], [_accuracy(group, "ensemble").mean]
            data.append(scatter("markers", "" if i else "ensemble", *place, marker=star))
    if alone := {result.seed: result for result in results if "scratch" in result.networks}:
        level = _accuracy(list(alone.values()), "scratch").mean
        ends = [0, len(longest) - 1]
        data.append(scatter("lines", f"baseline ({level:.2f})", ends, [level, level], line=BASELINE))
    same = all(result.chain == longest for result in chains)
    ticks = [link_name(role) if same or not i else f"link {i}" for i, role in enumerate(longest)]
    axis = {
        "title": {"text": "from teacher to student"},
        "tickvals": list(range(len(ticks))),
        "ticktext": ticks,
    }
    return {"data": data, "layout": layout(axis, "test accuracy (%)")}


def _accuracy(results: Sequence[JobResult], role: str) -> Interval:
    return accuracy(tested(results, role)).interval().times(100)
