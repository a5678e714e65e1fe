"""The parts of a chart: plotly's JSON as plain dicts, with names of colours.

A colour is a name in `COLOURS`, "--student", or "--student/20" with its opacity in percent. The page, which
knows whether it is light or dark, replaces it under keys that end in color or colorscale.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from math import ceil, isfinite, log10
from typing import Any

from kdsweep.analysis.leaderboard import Row
from kdsweep.analysis.statistics import Interval

Figure = dict[str, Any]  # {"data": […], "layout": {…}}

# Okabe and Ito's colours, which all readers can distinguish; on dark ground the brighter ones come first
LINES = {
    "light": ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"),
    "dark": ("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#F0E442", "#D55E00"),
}
COLOURS = {
    scheme: {**others, **{f"line{i}": colour for i, colour in enumerate(LINES[scheme])}}
    for scheme, others in {
        "light": {
            "ground": "#FFFFFF", "raised": "#F5F6F8", "chosen": "#FFF4CC", "rule": "#D8DDE3",
            "text": "#1B1F24", "quiet": "#59636E", "link": "#0060A0",
            "teacher": "#000000", "alone": "#767676", "student": "#0072B2",
        },
        "dark": {
            "ground": "#15181C", "raised": "#1E2329", "chosen": "#3A3517", "rule": "#363D46",
            "text": "#E6EAEE", "quiet": "#9AA5B1", "link": "#7CC4F0",
            "teacher": "#F5F5F5", "alone": "#A3A3A3", "student": "#56B4E9",
        },
    }.items()
}  # fmt: skip
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "cross")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
TEACHER = {"color": "--teacher", "dash": "solid"}
BASELINE = {"color": "--alone", "dash": "dash"}
MOST_LINES = 12  # beyond, a search's trials are points
MOST_TICKS = 12
MOST_LOOKED_INTO = 6  # recipes, of which none is the best


@dataclass(frozen=True)
class View:
    """One choice of a section: its figures by heading, and a sentence that states their point."""

    name: str
    says: str
    figures: Mapping[str, Figure]


@dataclass(frozen=True)
class Section:
    """A section of charts; `chooser` labels the choice of views, `toggle` a trace that can be hidden."""

    id: str
    title: str
    explains: str
    views: Sequence[View]
    chooser: str = ""
    toggle: str = ""
    square: bool = False
    headings: Sequence[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "headings", max((list(view.figures) for view in self.views), key=len))


def numbered(row: Row) -> str:
    """A recipe as the chooser lists it: 1. T=4 α=0.1; without its rank if validation gave none."""
    return f"{row.rank}. {row.label}" if row.rank else row.label


def looked_into(rows: Sequence[Row]) -> Sequence[Row]:
    """The recipes whose networks are shown in detail: the best one; without validation the first ones."""
    return rows[:1] if rows[0].rank else rows[:MOST_LOOKED_INTO]


def only_some(rows: Sequence[Row], most: int) -> str:
    """A sentence that says which recipes a chart has, if these are not all."""
    if len(rows) <= most:
        return ""
    return (
        f" The chart has the {most} best recipes."
        if rows[0].rank
        else f" The chart has the first {most} recipes."
    )


def plain(text: object) -> str:
    """Text that plotly shows as it is, without reading tags in it."""
    return escape(str(text), quote=False)


def shown(value: float, percent: bool = True, half: float | None = None) -> str:
    """98.41 ± 0.12 %, or 0.9841 ± 0.0012."""
    digits = 2 if percent else 4
    spread = f" ± {half:.{digits}f}" if half else ""
    return f"{value:.{digits}f}{spread}{' %' if percent else ''}"


def with_interval(found: Interval, percent: bool = True) -> str:
    """98.41 ± 0.12 %; with one seed, ± is over test images."""
    return shown(found.mean, percent, found.half or found.over_images)


def listed(names: Sequence[str]) -> str:
    """1, 4 and 16; a longer list is cut after three names."""
    if len(names) > 4:
        return f"{', '.join(names[:3])} and {len(names) - 3} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def rounded(values: Sequence[Any]) -> list[Any]:
    """Numbers to six digits, of which a screen shows four; None for NaN and infinity; words as they are."""
    return [
        value if value is None or isinstance(value, str)
        else float(f"{value:.6g}") if isfinite(value)
        else None
        for value in values
    ]  # fmt: skip


def scatter(
    mode: str, name: str, x: Sequence[Any], y: Sequence[Any], text: Sequence[str] | None = None, **more: Any
) -> dict[str, Any]:
    """A trace of points or lines; `text` is shown at each point under the pointer, `name` in the legend."""
    hover = {"text": list(text), "hoverinfo": "text"} if text else {"hoverinfo": "skip"}
    legend = {"name": name} if name else {"showlegend": False}
    places = {"x": rounded(x), "y": rounded(y)}
    return {"type": "scatter", "mode": mode, **places, **hover, **legend, **more}


def on_cells(
    x: Sequence[Any], y: Sequence[Any], texts: Sequence[str], font: Mapping[str, Any]
) -> dict[str, Any]:
    """A trace of texts upon the cells of a heat map."""
    return {**scatter("text", "", x, y), "text": list(texts), "textfont": font}


def whiskers(intervals: Sequence[Interval], colour: str) -> dict[str, Any]:
    """The part of a trace that draws half of each interval up and down; empty if there are none."""
    if not any(each.half for each in intervals):
        return {}
    halves = rounded([each.half or 0 for each in intervals])
    return {"error_y": {"array": halves, "color": colour, "thickness": 1.4, "width": 4}}


def layout(x: Mapping[str, Any], y: str | Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """The layout that charts share; the page adds fonts, colours of axes, height and the legend's place."""
    y = {"title": {"text": y}} if isinstance(y, str) else y
    return {"xaxis": {"automargin": True, **x}, "yaxis": {"automargin": True, **y}, **more}


@dataclass(frozen=True)
class Axis:
    """An axis of swept values: numbers at their value, or words side by side."""

    title: str
    values: Sequence[Any]  # each once, in order
    numeric: bool
    log: bool

    @classmethod
    def of(cls, title: str, values: Sequence[Any], log: bool | None = None) -> "Axis":
        """The axis for these values; `log` None makes it logarithmic if they are far apart."""
        numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        if not numeric:
            return cls(title, list(dict.fromkeys(map(str, values))), numeric=False, log=False)
        each = sorted(set(values))
        wide = each[-1] >= 30 * each[0] if log is None else log
        return cls(title, each, numeric=True, log=each[0] > 0 and len(each) > 1 and wide)

    def at(self, value: Any, shift: float = 0.0) -> float:
        """The place of a value, shifted by a share of the axis, so that lines do not overlap."""
        if not self.numeric:
            return self.values.index(str(value)) + shift * len(self.values)
        low, high = self.values[0], self.values[-1]
        if self.log:
            return float(value * (high / low) ** shift)
        return float(value + shift * (high - low))

    @property
    def ends(self) -> tuple[float, float]:
        """The ends of the axis, a little beyond the first and the last value."""
        if not self.numeric:
            return -0.5, len(self.values) - 0.5
        if self.values[0] == self.values[-1]:
            return self.values[0] - 1, self.values[0] + 1
        return self.at(self.values[0], -0.06), self.at(self.values[-1], 0.06)

    def plotly(self) -> dict[str, Any]:
        low, high = self.ends
        axis: dict[str, Any] = {"title": {"text": plain(self.title)}, "zeroline": False}
        if self.log:
            axis |= {"type": "log", "range": [log10(low), log10(high)]}
        else:
            axis |= {"type": "linear", "range": [low, high]}
        if len(self.values) <= MOST_TICKS or not self.numeric:
            texts = [f"{value:.4g}" if self.numeric else plain(short(value)) for value in self.values]
            axis |= {"tickmode": "array", "tickvals": [self.at(v) for v in self.values], "ticktext": texts}
        elif self.log:
            base = 2 if high <= 1024 * low else 10
            powers = [base**i for i in range(ceil(log10(low) / log10(base)), 400) if base**i <= high]
            axis |= {"tickmode": "array", "tickvals": powers, "ticktext": [f"{each:g}" for each in powers]}
        return axis


def short(text: str, length: int = 24) -> str:
    """A name, cut to the room that an axis has."""
    return text if len(text) <= length else f"{text[: length - 1]}…"
