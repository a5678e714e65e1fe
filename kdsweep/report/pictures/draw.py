"""Charts as PNG files: what the page draws by plotly, drawn by matplotlib, without a screen."""

from collections.abc import Sequence
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kdsweep.report.charts.figures import COLOURS, DASHES, SYMBOLS, Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STYLES = dict(zip(DASHES, ("-", "--", ":", "-.", (0, (8, 3)), (0, (8, 3, 2, 3))), strict=True))
MARKERS = {**dict(zip(SYMBOLS, "osD^XP", strict=True)), "star": "*"}
LETTER, LINE, FEW_LINES = 0.07, 0.19, 3  # of a legend: inches, and the lines that need no room of their own
MOST_LETTERS = 50  # of all ticks of a panel; more are turned


def draw(charts: Sequence[Figure], title: str, file: Path) -> None:
    """Draw charts side by side, with one legend below them."""
    from matplotlib.figure import Figure as Picture

    picture = Picture(figsize=(2.2 + 5 * len(charts), 4.6), dpi=144, layout="constrained")
    panels = picture.subplots(1, len(charts), squeeze=False, sharey=True)[0]
    for axes, chart in zip(panels, charts, strict=True):
        for trace in chart["data"]:
            _draw_trace(axes, trace)
        _set_axis(axes, chart["layout"]["xaxis"])
        axes.grid(alpha=0.25)
    panels[0].set_ylabel(unescape(charts[0]["layout"]["yaxis"]["title"]["text"]))
    panels[0].set_title(title, fontsize=10)
    handles = {
        label: handle
        for axes in panels
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    longest = max(map(len, handles), default=0)
    columns = max(1, min(1 + 2 * len(panels), int(picture.get_figwidth() / (0.5 + LETTER * longest))))
    lines = -(-len(handles) // columns)
    picture.set_figheight(picture.get_figheight() + LINE * max(0, lines - FEW_LINES))
    where: dict[str, Any] = {"loc": "outside lower center", "ncols": columns}
    picture.legend(handles.values(), handles, frameon=False, fontsize=9, **where)
    picture.savefig(file)


def _draw_trace(axes: "Axes", trace: Figure) -> None:
    x, y = (np.array(trace[name], float) for name in ("x", "y"))
    if "fill" in trace:
        colour, percent = _colour(trace["fillcolor"])
        axes.fill(x, y, color=colour, alpha=percent / 100, linewidth=0)
        return
    line, marker = trace.get("line", {}), trace.get("marker", {})
    look: dict[str, Any] = {
        "color": _colour(line.get("color") or marker["color"])[0],
        "linestyle": STYLES[line.get("dash", "solid")] if "lines" in trace["mode"] else "none",
        "linewidth": line.get("width", 2) * 0.75,
        "marker": MARKERS[marker["symbol"]] if "markers" in trace["mode"] else None,
        "markersize": marker.get("size", 8) * 0.7,
        "label": unescape(trace["name"]) if trace.get("showlegend", True) else None,
    }
    if "error_y" in trace:
        axes.errorbar(x, y, trace["error_y"]["array"], capsize=3, **look)
    else:
        axes.plot(x, y, **look)


def _set_axis(axes: "Axes", axis: Figure) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel(unescape(axis["title"]["text"]))
    if axis.get("type") == "log":
        axes.set_xscale("log")
    if axis.get("tickformat") == "d":
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if "tickvals" in axis:
        turned = 30 if sum(map(len, axis["ticktext"])) > MOST_LETTERS else 0
        axes.set_xticks(axis["tickvals"], [unescape(text) for text in axis["ticktext"]], rotation=turned)
        axes.minorticks_off()
    if "range" in axis:
        low, high = (10**end if axis.get("type") == "log" else end for end in axis["range"])
        axes.set_xlim(low, high)


def _colour(name: str) -> tuple[str, float]:
    """A colour of the light page, and its opacity in percent: "--student/20" is a fifth of the student's."""
    name, _, percent = name.removeprefix("--").partition("/")
    return COLOURS["light"][name], float(percent or 100)
