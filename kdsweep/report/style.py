"""How pictures look: by matplotlib, without a screen, in Okabe and Ito's colours, told apart by all."""

import re
from typing import TYPE_CHECKING

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


def link_name(role: str) -> str:
    """A role as people write it: generation 2, student alone."""
    return "student alone" if role == "scratch" else re.sub(r"(\d+)$", r" \1", role)
