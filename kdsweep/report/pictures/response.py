"""A figure of the test split against the swept parameters."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdsweep.analysis.metric import Metric
from kdsweep.analysis.statistics import Interval
from kdsweep.report.look import COLOURS, MARKERS, MOST_LINES, SCRATCH, TEACHER, figure, halves, of_seeds
from kdsweep.results.names import Options, axis_label, is_log, is_number, joined, named, usual, written
from kdsweep.results.result import JobResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Points = dict[float, dict[int, JobResult]]  # place along the axis to seed to job
DRAWN = {
    "accuracy": Metric("test accuracy", "accuracy", True),
    "f1": Metric("test F1", "f1", False),
    "roc_auc": Metric("test ROC AUC", "roc_auc", False),
}
LETTER, LINE, FEW_LINES = 0.07, 0.19, 3  # of a legend: inches, and the lines that need no room of their own


def draw_sweep(results: Sequence[JobResult], swept: Sequence[str], name: str, file: Path) -> None:
    """The figure `name` of the test split against each swept parameter, lines by the others.

    Several seeds give a mean and its 95 % interval over seeds and test images. Teacher and student alone are
    level lines where they are the same for all jobs but for the seed. Accuracy is in percent.
    """
    options = joined(result.options for result in results)
    axes_keys = _axes(results, swept, options)
    picture, panels = figure(2.2 + 5 * len(axes_keys), 4.6, len(axes_keys))
    for axes, key in zip(panels, axes_keys, strict=True):
        _panel(axes, results, swept, name, key, options)
    panels[0].set_ylabel(_label(name, results))
    panels[0].set_title(of_seeds(len({result.seed for result in results})), fontsize=10)
    handles = {
        label: handle
        for axes in panels
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    longest = max(map(len, handles), default=0)
    columns = max(1, min(1 + 2 * len(panels), int(picture.get_figwidth() / (0.5 + LETTER * longest))))
    lines = -(-len(handles) // columns)
    picture.set_figheight(picture.get_figheight() + LINE * max(0, lines - FEW_LINES))
    picture.legend(
        handles.values(), handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=9
    )
    picture.savefig(file)


def _panel(
    axes: "Axes",
    results: Sequence[JobResult],
    swept: Sequence[str],
    figure: str,
    along: str,
    options: Options,
) -> None:
    found: list[Any] = [result.seed if along == "seed" else result.swept.get(along) for result in results]
    numeric = all(map(is_number, found))
    others = [key for key in swept if key not in (along, "seed")]
    values = found if numeric else [written(result.swept.get(along, "")) for result in results]
    ticks = sorted(set(values)) if numeric else list(dict.fromkeys(values))
    places: list[Any] = values if numeric else [ticks.index(value) for value in values]

    metric = DRAWN[figure]

    def lines(role: str) -> dict[str, Points]:
        """By the other swept values: place along the axis to seed to job."""
        found: dict[str, Points] = {}
        for result, place in zip(results, places, strict=True):
            if metric.of(result, role) is not None:
                name = named({key: result.swept[key] for key in others if key in result.swept}, options)
                found.setdefault(name, {}).setdefault(place, {})[result.seed] = result
        return found

    def over(jobs: Mapping[int, JobResult], role: str) -> Interval:
        measured = metric.over(list(jobs.values()), role)
        assert measured is not None
        return measured

    students = lines("student")
    if len(students) > MOST_LINES:  # a search: each trial has values of its own
        figures = [metric.of(result, "student") for result in results]
        axes.scatter(
            places, [float("nan") if each is None else each for each in figures], label="student", s=16
        )
    else:
        _draw(axes, students, partial(over, role="student"), "student", "-")
        _draw(axes, lines("ensemble"), partial(over, role="ensemble"), "ensemble", "-.")
    for role, label, colour, style in (
        ("teacher", "teacher", TEACHER, "-"),
        ("scratch", "student alone", SCRATCH, "--"),
    ):
        compared = lines(role)
        by_seed = _if_level(compared, metric, role)
        if by_seed:
            level = over(by_seed, role)
            name = f"{label} ({level.mean:.2f})" if metric.percent else f"{label} ({level.mean:.3f})"
            _level(axes, level, name, colour, style)
        elif len(compared) <= MOST_LINES:
            _draw(axes, compared, partial(over, role=role), label, ":" if role == "teacher" else "--")

    if numeric and is_log(along, options) and min(places) > 0:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
    labels = [f"{value:.3g}" if numeric else value for value in ticks]
    if not numeric or (len(labels) <= 12 and max(map(len, labels)) <= 3):
        axes.set_xticks(ticks if numeric else range(len(ticks)), labels)
        axes.minorticks_off()
    axes.set_xlabel(axis_label(along, options))
    axes.grid(alpha=0.25)


def has_values(results: Sequence[JobResult], figure: str) -> bool:
    """Whether there is anything to draw of a figure."""
    return any(DRAWN[figure].of(result, role) is not None for result in results for role in result.networks)


def _label(figure: str, results: Sequence[JobResult]) -> str:
    positive = results[0].student.test.positive_class
    if figure == "accuracy":
        return "test accuracy (%)"
    kind = f" of {positive}" if positive else ", macro" if figure == "f1" else ", mean of classes"
    return f"test {'F1' if figure == 'f1' else 'ROC AUC'}{kind}"


def _draw(
    axes: "Axes",
    lines: Mapping[str, Points],
    over: Callable[[Mapping[int, JobResult]], Interval],
    label: str,
    style: str,
) -> None:
    """A line for each of `lines`, with its 95 % interval."""
    for i, (name, points) in enumerate(lines.items()):
        places = sorted(points)
        values = [over(points[place]) for place in places]
        axes.errorbar(
            places,
            [each.mean for each in values],
            halves(values),
            color=COLOURS[i % len(COLOURS)],
            marker=MARKERS[i % len(MARKERS)],
            linestyle=style,
            capsize=3,
            label=f"{label}, {name}" if name else label,
        )


def _if_level(lines: Mapping[str, Points], metric: Metric, role: str) -> dict[int, JobResult] | None:
    """Seed to job, if the figure is the same everywhere; None if it is not."""
    by_seed: dict[int, JobResult] = {}
    for points in lines.values():
        for jobs in points.values():
            for seed, job in jobs.items():
                if metric.of(by_seed.setdefault(seed, job), role) != metric.of(job, role):
                    return None
    return by_seed


def _level(axes: "Axes", level: Interval, label: str, colour: str, style: str) -> None:
    """A level line at the mean, with a band of its 95 % interval."""
    axes.axhline(level.mean, color=colour, linestyle=style, linewidth=1.2, label=label)
    if half := level.half:
        axes.axhspan(level.mean - half, level.mean + half, color=colour, alpha=0.08, linewidth=0)


def _axes(results: Sequence[JobResult], swept: Sequence[str], options: Options) -> list[str]:
    """The swept keys to draw along: the usual ones, else a number, else any, else the seed."""
    numbers = [key for key in swept if all(is_number(result.swept.get(key)) for result in results)]
    found = [key for key in usual(options) if key in numbers]
    others = [key for key in (*numbers, *swept) if key != "seed"]
    return found or others[:1] or ["seed"]
