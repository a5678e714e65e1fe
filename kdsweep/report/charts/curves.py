"""Learning curves: accuracy epoch by epoch, distilled students against their baselines."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from statistics import fmean
from typing import Any

from kdsweep.analysis.leaderboard import Row
from kdsweep.report.charts.figures import (
    MOST_TICKS,
    Figure,
    Section,
    View,
    layout,
    numbered,
    only_some,
    scatter,
    shown,
)
from kdsweep.results.network import NetworkResult
from kdsweep.results.result import JobResult

MOST_CURVES = 12  # recipes; the histories of hundreds would make up most of the page
LINES = (("val/accuracy", "solid", "validation"), ("train/accuracy", "dot", "training"))


def curves_section(rows: Sequence[Row]) -> Section | None:
    """The best recipes' accuracy per epoch, means over the seeds."""
    views = [
        View(numbered(row), _how_it_learned(row), {"Accuracy, epoch by epoch": figure})
        for row in rows[:MOST_CURVES]
        if (figure := curves(row.recipe.jobs))["data"]
    ]
    if not views:
        return None
    lines = "Solid lines are validation, dotted lines training" if rows[0].val else "The lines are training"
    explains = f"{lines}; stars mark the epochs whose weights were kept."
    explains += only_some(rows, MOST_CURVES)
    return Section("curves", "Learning curves", explains, views, "Recipe")


def curves(jobs: Sequence[JobResult]) -> Figure:
    """Accuracy per epoch of the students and of their baselines, means over the jobs."""
    traces = list(_traces(jobs))
    epochs = max((len(trace["x"]) for trace in traces), default=0)
    axis = {"title": {"text": "epoch"}, "tickformat": "d", **({"dtick": 1} if epochs <= MOST_TICKS else {})}
    return {"data": traces, "layout": layout(axis, "accuracy (%)")}


def _traces(jobs: Sequence[JobResult]) -> Iterable[dict[str, Any]]:
    for role, name, colour, symbol in (
        ("student", "distilled" if jobs[0].taught else "student", "--student", "circle"),
        ("scratch", "baseline", "--line1", "square"),
    ):
        networks = _learned(jobs, role)
        if not networks:
            continue
        first = next(
            (figure for figure, *_ in LINES if any(figure in each.history[-1] for each in networks)), ""
        )
        for figure, dash, what in LINES:
            means = _mean_per_epoch([network.history for network in networks], figure)
            if not any(value is not None for value in means):
                continue
            yield scatter(
                "lines" if len(means) > 1 else "markers",
                f"{name}, {what}",
                range(1, len(means) + 1),
                means,
                line={"color": colour, "dash": dash, "width": 2},
                marker={"color": colour, "symbol": symbol},
                hoverinfo="all",
                hovertemplate=f"{name}, {what}<br>epoch %{{x}}: %{{y:.2f}} %<extra></extra>",
            )
            if figure == first:
                kept = sorted({network.best_epoch for network in networks if network.best_epoch})
                yield scatter(
                    "markers",
                    f"{name}, kept",
                    kept,
                    [means[epoch - 1] for epoch in kept],
                    marker={"color": colour, "symbol": "star", "size": 12},
                    showlegend=False,
                    hoverinfo="all",
                    hovertemplate=f"{name}: weights of epoch %{{x}} kept<extra></extra>",
                )


def _learned(jobs: Sequence[JobResult], role: str) -> list[NetworkResult]:
    return [job.networks[role] for job in jobs if role in job.networks and job.networks[role].history]


def _mean_per_epoch(histories: Sequence[Sequence[Mapping[str, float]]], figure: str) -> list[float | None]:
    """The mean of each epoch in percent, over the seeds that reached it."""
    means: list[float | None] = []
    for epoch in zip_longest(*histories, fillvalue={}):
        values = [100 * each[figure] for each in epoch if each.get(figure) is not None]
        means.append(fmean(values) if values else None)
    return means


def _how_it_learned(row: Row) -> str:
    sentences = []
    for role, name in (("student", "the student"), ("scratch", "the baseline")):
        networks = _learned(row.recipe.jobs, role)
        if networks:
            epoch = fmean(network.best_epoch or 0 for network in networks)
            after = f"after {epoch:.3g} epoch{'s' if epoch != 1 else ''}"
            accuracies = [100 * network.val.accuracy for network in networks if network.val]
            if accuracies:
                with_accuracy = f"with a validation accuracy of {shown(fmean(accuracies))}"
                sentences.append(f"{name} is best {after} {with_accuracy}")
            else:
                sentences.append(f"{name} has the weights {after}")
    seeds = len(row.recipe.jobs)
    return f"{row.label}: {'; '.join(sentences)}{f' (means over {seeds} seeds)' if seeds > 1 else ''}."
