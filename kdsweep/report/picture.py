"""Pictures, drawn by matplotlib without a screen. Colours are those of Okabe and Ito, told apart by all."""

from collections.abc import Sequence
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

    Several seeds give a mean and its standard deviation; teacher and student alone are level lines.
    """
    along, is_number = _axis(results, swept)
    others = [key for key in swept if key not in (along, "seed")]
    lines: dict[str, dict[Any, list[float]]] = {}
    for result in results:
        x = result.swept[along] if is_number else result.shown(along)
        points = lines.setdefault(", ".join(f"{key}={result.shown(key)}" for key in others), {})
        points.setdefault(x, []).append(100 * _accuracy(result, "student"))
    positions = list(dict.fromkeys(x for points in lines.values() for x in points))
    if is_number:
        positions.sort()
    place = {x: x if is_number else i for i, x in enumerate(positions)}

    figure, axes = _figure(7.2, 4.6)
    for i, (name, points) in enumerate(lines.items()):
        xs = [x for x in positions if x in points]
        spread = [stdev(points[x]) if len(points[x]) > 1 else 0 for x in xs]
        axes.errorbar(
            [place[x] for x in xs],
            [mean(points[x]) for x in xs],
            spread if any(spread) else None,
            color=COLOURS[i % len(COLOURS)],
            marker=MARKERS[i % len(MARKERS)],
            linestyle=("-", "--", ":", "-.")[i // len(COLOURS) % 4],
            capsize=3,
            label=f"student, {name}" if name else "student",
        )
    _level(axes, results, "teacher", "teacher", TEACHER, "-")
    _level(axes, results, "scratch", "student alone", SCRATCH, "--")

    if along == "temperature":
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
    labels = [f"{x:.3g}" if is_number else x for x in positions]
    if not is_number or (len(labels) <= 12 and max(map(len, labels)) <= 3):
        axes.set_xticks([place[x] for x in positions], labels)
        axes.minorticks_off()
    seeds = len({result.seed for result in results})
    axes.set(xlabel=LABELS.get(along, along), ylabel="test accuracy (%)")
    axes.set_title(f"mean and standard deviation of {seeds} seeds" if seeds > 1 else "one seed", fontsize=10)
    axes.grid(alpha=0.25)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    figure.savefig(file)


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


def _level(axes: "Axes", results: Sequence[Result], role: str, label: str, colour: str, style: str) -> None:
    """A line at the mean accuracy of a network that the sweep shares, with a band over its seeds."""
    by_seed = {result.seed: 100 * _accuracy(result, role) for result in results if role in result.networks}
    if not by_seed:
        return
    centre, values = mean(by_seed.values()), list(by_seed.values())
    axes.axhline(centre, color=colour, linestyle=style, linewidth=1.2, label=f"{label} ({centre:.2f})")
    if len(values) > 1:
        spread = stdev(values)
        axes.axhspan(centre - spread, centre + spread, color=colour, alpha=0.08, linewidth=0)


def _accuracy(result: Result, role: str) -> float:
    accuracy = result.test(role)
    assert accuracy is not None
    return accuracy


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
