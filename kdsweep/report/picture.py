"""Pictures, drawn by matplotlib without a screen. Colours are those of Okabe and Ito, told apart by all."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from kdsweep.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
TEACHER, SCRATCH = "#000000", "#7F7F7F"
MARKERS = "osD^vP"
MOST_LINES = 12
Points = dict[float, dict[int, float]]  # place along the axis to seed to accuracy in percent
LABELS = {"temperature": "temperature T", "alpha": "alpha (weight of the labels)"}


def draw_confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str], file: Path) -> None:
    """A confusion matrix, true classes as rows, coloured by the share of the row."""
    shares = [[count / max(1, sum(row)) for count in row] for row in matrix]
    side = 2.2 + 0.45 * len(classes)
    figure, axes = _figure(side, side)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ticks = range(len(classes))
    axes.set_xticks(ticks, classes, rotation=0 if max(map(len, classes)) < 3 else 90)
    axes.set_yticks(ticks, classes)
    axes.set(xlabel="predicted", ylabel="true")
    if len(classes) <= 25:  # beyond, numbers would be too small to read
        for row, counts in enumerate(matrix):
            for column, count in enumerate(counts):
                if count:
                    colour = "white" if shares[row][column] > 0.5 else "black"
                    axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)
    figure.savefig(file)


def draw_sweep(results: Sequence[Result], swept: Sequence[str], file: Path) -> None:
    """Test accuracy against the swept parameter, a line for each combination of the other ones.

    Several seeds give a mean and its standard deviation. Teacher and student alone are level lines where they
    are the same for all jobs but for the seed.
    """
    along, is_number = _axis(results, swept)
    others = [key for key in swept if key not in (along, "seed")]
    shown = [result.swept[along] if is_number else result.shown(along) for result in results]
    ticks = sorted(set(shown)) if is_number else list(dict.fromkeys(shown))
    places: list[Any] = shown if is_number else [ticks.index(value) for value in shown]

    def lines(role: str) -> dict[str, Points]:
        """By the other swept values: place along the axis to seed to accuracy."""
        found: dict[str, Points] = {}
        for result, place in zip(results, places, strict=True):
            accuracy = result.test(role)
            if accuracy is not None:
                name = ", ".join(f"{key}={result.shown(key)}" for key in others)
                found.setdefault(name, {}).setdefault(place, {})[result.seed] = 100 * accuracy
        return found

    figure, axes = _figure(7.2, 4.6)
    students = lines("student")
    if len(students) > MOST_LINES:  # a search: each trial has values of its own
        axes.scatter(
            places, [100 * (result.test("student") or 0) for result in results], label="student", s=16
        )
    else:
        _draw(axes, students, "student", "-")
    for role, label, colour, style in (
        ("teacher", "teacher", TEACHER, "-"),
        ("scratch", "student alone", SCRATCH, "--"),
    ):
        compared = lines(role)
        by_seed = _if_level(compared)
        if by_seed:
            _level(axes, list(by_seed.values()), label, colour, style)
        elif len(compared) <= MOST_LINES:
            _draw(axes, compared, label, ":" if role == "teacher" else "--")

    if along == "temperature":
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
    labels = [f"{value:.3g}" if is_number else value for value in ticks]
    if not is_number or (len(labels) <= 12 and max(map(len, labels)) <= 3):
        axes.set_xticks(ticks if is_number else range(len(ticks)), labels)
        axes.minorticks_off()
    seeds = len({result.seed for result in results})
    axes.set(xlabel=LABELS.get(along, along), ylabel="test accuracy (%)")
    axes.set_title(f"mean and standard deviation of {seeds} seeds" if seeds > 1 else "one seed", fontsize=10)
    axes.grid(alpha=0.25)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    figure.savefig(file)


def _draw(axes: "Axes", lines: Mapping[str, Points], label: str, style: str) -> None:
    """A line for each of `lines`, with its deviation over the seeds."""
    for i, (name, points) in enumerate(lines.items()):
        places = sorted(points)
        values = [list(points[place].values()) for place in places]
        spread = [stdev(each) if len(each) > 1 else 0 for each in values]
        axes.errorbar(
            places,
            [mean(each) for each in values],
            spread if any(spread) else None,
            color=COLOURS[i % len(COLOURS)],
            marker=MARKERS[i % len(MARKERS)],
            linestyle=style,
            capsize=3,
            label=f"{label}, {name}" if name else label,
        )


def _if_level(lines: Mapping[str, Points]) -> dict[int, float] | None:
    """Seed to accuracy, if that is the same everywhere; None if it is not."""
    by_seed: dict[int, float] = {}
    for points in lines.values():
        for values in points.values():
            for seed, value in values.items():
                if by_seed.setdefault(seed, value) != value:
                    return None
    return by_seed


def _level(axes: "Axes", values: Sequence[float], label: str, colour: str, style: str) -> None:
    """A level line at the mean, with a band of the deviation over the seeds."""
    centre = mean(values)
    axes.axhline(centre, color=colour, linestyle=style, linewidth=1.2, label=f"{label} ({centre:.2f})")
    if len(values) > 1:
        spread = stdev(values)
        axes.axhspan(centre - spread, centre + spread, color=colour, alpha=0.08, linewidth=0)


def _axis(results: Sequence[Result], swept: Sequence[str]) -> tuple[str, bool]:
    """The swept key to draw along, and whether its values are numbers."""
    numbers = [key for key in swept if all(_is_number(result.swept[key]) for result in results)]
    for key in ("temperature", "alpha", *(key for key in numbers if key != "seed")):
        if key in numbers:
            return key, True
    others = [key for key in swept if key != "seed"]
    return (others[0], False) if others else ("seed", "seed" in swept)


def _figure(width: float, height: float) -> tuple["Figure", "Axes"]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=144, layout="constrained")
    return figure, figure.add_subplot()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
