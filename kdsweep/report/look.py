"""How pictures look: by matplotlib, without a screen, in Okabe and Ito's colours, told apart by all."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kdsweep.analysis.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
TEACHER, SCRATCH = "#000000", "#7F7F7F"
MARKERS = "osD^vP"
MOST_LINES = 12


def figure(width: float, height: float, panels: int = 1) -> "tuple[Figure, list[Axes]]":
    """A figure of panels side by side, sizes in inches."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), dpi=144, layout="constrained")
    return made, list(made.subplots(1, panels, squeeze=False, sharey=True)[0])


def of_seeds(count: int) -> str:
    """What is drawn of so many seeds."""
    return f"mean and 95 % interval over {count} seeds and test images" if count > 1 else "one seed"


def halves(intervals: Sequence[Interval]) -> list[float] | None:
    """Half of each interval, 0 where one seed has none; None where there is none to draw."""
    found = [each.half or 0 for each in intervals]
    return found if any(found) else None
