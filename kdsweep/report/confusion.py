"""The picture of a confusion matrix."""

from collections.abc import Sequence
from pathlib import Path

LARGEST = 20.0  # inches, a side
MOST_LABELS = 60  # beyond, names of classes would lie upon each other
LETTER = 0.1  # inches, a wide one of a tick's label


def draw_confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str], file: Path) -> None:
    """A confusion matrix, true classes as rows, coloured by the share of the row, with each class's share."""
    from matplotlib.figure import Figure

    shares = [[count / max(1, sum(row)) for count in row] for row in matrix]
    side = min(2.2 + 0.45 * len(classes), LARGEST)
    picture = Figure(dpi=100)  # by hand, for every network has this picture: laid out it costs twice as much
    axes = picture.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ticks = range(len(classes))
    longest = max(map(len, classes))
    if len(classes) <= MOST_LABELS:
        axes.set_xticks(ticks, classes, rotation=0 if longest < 3 else 90)
        axes.set_yticks(ticks, [f"{name}  {shares[i][i]:.0%}" for i, name in enumerate(classes)])
    else:
        axes.set_xticks([])
        axes.set_yticks([])
    axes.set(xlabel="predicted", ylabel="true, and share found")
    if len(classes) <= 25:  # beyond, numbers would be too small to read
        for row, counts in enumerate(matrix):
            for column, count in enumerate(counts):
                if count:
                    colour = "white" if shares[row][column] > 0.5 else "black"
                    axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)
    named = len(classes) <= MOST_LABELS
    left = 0.45 + LETTER * (longest + 6) * named
    below = 0.55 + LETTER * max(0, longest - 2) * named
    picture.set_size_inches(left + side - 1, below + side - 1)
    width, height = picture.get_size_inches()
    picture.subplots_adjust(left / width, below / height, 1 - 0.15 / width, 1 - 0.15 / height)
    picture.savefig(file)
