"""Charts of networks from the inside: how they learned, what they confuse, how sure they are."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from statistics import fmean
from typing import Any

from kdsweep.report.figures import ALONE, TEACHER, Figure, Section, View, layout, plain, rounded, shown
from kdsweep.report.leaderboard import Row
from kdsweep.result import Result

MOST_CURVES = 12  # recipes whose curves are kept: a page of hundreds would be their histories
MOST_CLASSES = 100  # of a confusion matrix that is drawn
MOST_COUNTED = 25  # beyond, numbers would be too small to read
DIFFERING = 3  # classes that are named
FEWEST = 10  # images of a bin that is drawn: the share of a few says little
SPLITS = (("val/accuracy", "solid", "validation"), ("train/accuracy", "dot", "training"))


def curves_section(rows: Sequence[Row]) -> Section | None:
    """The best recipes' accuracy per epoch, distilled against alone, means over the seeds."""
    views = []
    for row in rows[:MOST_CURVES]:
        traces = list(_curves(row.recipe.jobs))
        if traces:
            figure = {"data": traces, "layout": layout({"title": {"text": "epoch"}}, "accuracy (%)")}
            views.append(
                View(_numbered(row, rows), _how_it_learned(row), {"Accuracy, epoch by epoch": figure})
            )
    if not views:
        return None
    explains = "Solid is validation, dotted training; stars are the epochs whose weights were kept."
    if len(rows) > MOST_CURVES:
        explains += f" The {MOST_CURVES} best recipes are here."
    return Section("curves", "Learning curves", explains, views, "Recipe")


def _numbered(row: Row, rows: Sequence[Row]) -> str:
    several = len({each.dataset for each in rows}) > 1
    return f"{row.rank}. {row.label}{f' ({row.dataset})' if several else ''}"


def _curves(jobs: Sequence[Result]) -> Iterable[dict[str, Any]]:
    for role, name, colour, symbol in (
        ("student", "distilled" if len(jobs[0].chain) > 1 else "student", "--student", "circle"),
        ("scratch", "alone", "--line1", "square"),
    ):
        networks = _learned(jobs, role)
        if not networks:
            continue
        for figure, dash, what in (
            ("val/accuracy", "solid", "validation"),
            ("train/accuracy", "dot", "training"),
        ):
            means = _mean_per_epoch([network["history"] for network in networks], figure)
            if not any(value is not None for value in means):
                continue
            epochs = list(range(1, len(means) + 1))
            yield {
                "type": "scatter",
                "mode": "lines" if len(means) > 1 else "markers",
                "name": f"{name}, {what}",
                "x": epochs,
                "y": rounded(means),
                "line": {"color": colour, "dash": dash, "width": 2},
                "marker": {"color": colour, "symbol": symbol},
                "hovertemplate": f"{name}, {what}<br>epoch %{{x}}: %{{y:.2f}} %<extra></extra>",
            }
            if figure == "val/accuracy":
                kept = sorted({network["best_epoch"] for network in networks})
                yield {
                    "type": "scatter",
                    "mode": "markers",
                    "name": f"{name}, kept",
                    "x": kept,
                    "y": rounded([means[epoch - 1] for epoch in kept]),
                    "marker": {"color": colour, "symbol": "star", "size": 12},
                    "showlegend": False,
                    "hovertemplate": f"{name}: weights of epoch %{{x}} kept<extra></extra>",
                }


def _learned(jobs: Sequence[Result], role: str) -> list[dict[str, Any]]:
    return [job.networks[role] for job in jobs if job.networks.get(role, {}).get("history")]


def _mean_per_epoch(histories: Sequence[Sequence[Mapping[str, float]]], figure: str) -> list[float | None]:
    """In percent, over the seeds that got so far."""
    means: list[float | None] = []
    for epoch in zip_longest(*histories, fillvalue={}):
        values = [100 * each[figure] for each in epoch if each.get(figure) is not None]
        means.append(fmean(values) if values else None)
    return means


def _how_it_learned(row: Row) -> str:
    said = []
    for role, name in (("student", "the student"), ("scratch", "the student alone")):
        networks = [
            job.networks[role] for job in row.recipe.jobs if job.networks.get(role, {}).get("history")
        ]
        if networks:
            epoch = fmean(network["best_epoch"] for network in networks)
            accuracy = fmean(100 * network["val"]["val/accuracy"] for network in networks)
            said.append(
                f"{name} is best after {epoch:.3g} epochs with {shown(accuracy)} of the validation images"
            )
    seeds = len(row.recipe.jobs)
    return f"{row.label}: {'; '.join(said)}{f' (means over {seeds} seeds)' if seeds > 1 else ''}."


def confusion_section(rows: Sequence[Row]) -> Section | None:
    """Teacher and student of the best recipe, all seeds counted together; a view per data set."""
    views = []
    for row in rows:
        matrices = {role: _summed(row.recipe.jobs, role) for role in ("teacher", "student")}
        found = {role: matrix for role, matrix in matrices.items() if matrix}
        classes = row.recipe.jobs[0].dataset.get("classes", [])
        if row.rank > 1 or "student" not in found or not classes:
            continue
        figures = {}
        if len(classes) <= MOST_CLASSES:
            figures = {role.capitalize(): _matrix(matrix, classes) for role, matrix in found.items()}
        says = _differing(found["teacher"], found["student"], classes) if "teacher" in found else ""
        if figures or says:
            views.append(View(_numbered(row, rows), says or _weakest(found["student"], classes), figures))
    if not views:
        return None
    explains = (
        "Test images by their true class (rows) and by what the network takes them for (columns), all seeds "
        "of the best recipe counted together; the colour is the share of the row."
    )
    return Section("confusion", "Who confuses what", explains, views, "Recipe", square=True)


Matrix = list[list[int]]


def _summed(jobs: Sequence[Result], role: str) -> Matrix | None:
    matrices: list[Matrix] = [
        matrix for job in jobs if (matrix := job.networks.get(role, {}).get("test", {}).get("confusion"))
    ]
    if not matrices:
        return None
    return [[sum(cells) for cells in zip(*same, strict=True)] for same in zip(*matrices, strict=True)]


def _matrix(matrix: Matrix, classes: Sequence[str]) -> Figure:
    names = [plain(name) for name in classes]
    trace = {
        "type": "heatmap",
        "z": [rounded([count / max(1, sum(row)) for count in row]) for row in matrix],
        "zmin": 0,
        "zmax": 1,
        "colorscale": [[0, "--raised"], [1, "--student"]],
        "showscale": False,
        "customdata": matrix,
        "hovertext": [
            [f"{true} taken for {taken}: {count}" for taken, count in zip(names, row, strict=True)]
            for true, row in zip(names, matrix, strict=True)
        ]
        if len(names) <= MOST_COUNTED
        else None,
        "hoverinfo": "text" if len(names) <= MOST_COUNTED else "z",
        "xgap": 1,
        "ygap": 1,
    }
    data = [trace]
    if len(names) <= MOST_COUNTED:
        data.append(_counts(matrix))
    places = list(range(len(names)))
    ticks = {"tickmode": "array", "tickvals": places, "ticktext": names, "showgrid": False, "zeroline": False}
    if len(names) > 60:
        ticks = {"showticklabels": False, "showgrid": False, "zeroline": False}
    x = {"title": {"text": "taken for"}, "side": "bottom", **ticks}
    y = {"title": {"text": "true class"}, "autorange": "reversed", **ticks}
    return {"data": data, "layout": layout(x, y)}


def _counts(matrix: Matrix) -> dict[str, Any]:
    """The counts upon the cells, of those that are not empty."""
    cells = [
        (i, j, count, 2 * count > sum(row))
        for i, row in enumerate(matrix)
        for j, count in enumerate(row)
        if count
    ]
    return {
        "type": "scatter",
        "mode": "text",
        "x": [j for _, j, _, _ in cells],
        "y": [i for i, _, _, _ in cells],
        "text": [str(count) for _, _, count, _ in cells],
        "textfont": {"size": 11, "color": ["--ground" if most else "--text" for *_, most in cells]},
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _differing(teacher: Matrix, student: Matrix, classes: Sequence[str]) -> str:
    """The classes of which the two find the most different shares."""
    gaps = []
    for i, name in enumerate(classes):
        if sum(teacher[i]) and sum(student[i]):
            theirs, ours = (100 * matrix[i][i] / sum(matrix[i]) for matrix in (teacher, student))
            gaps.append((ours - theirs, name, ours, theirs, _taken_for(student[i], i, classes)))
    gaps = [gap for gap in sorted(gaps, key=lambda gap: -abs(gap[0])) if gap[0]][:DIFFERING]
    if not gaps:
        return "Teacher and student find the same share of every class."
    told = [
        f"{name}: the student finds {ours:.2f} %, the teacher {theirs:.2f} %{taken}"
        for _, name, ours, theirs, taken in gaps
    ]
    return f"They differ most on {'; '.join(told)}."


def _taken_for(row: Sequence[int], true: int, classes: Sequence[str]) -> str:
    wrong = {i: count for i, count in enumerate(row) if i != true and count}
    most = max(wrong, key=wrong.__getitem__, default=None)
    return "" if most is None else f" (the student mostly takes it for {classes[most]})"


def _weakest(matrix: Matrix, classes: Sequence[str]) -> str:
    shares = {name: 100 * matrix[i][i] / sum(matrix[i]) for i, name in enumerate(classes) if sum(matrix[i])}
    worst = sorted(shares, key=shares.__getitem__)[:3]
    return f"Least found are {', '.join(f'{name} ({shares[name]:.2f} %)' for name in worst)}."


def calibration_section(rows: Sequence[Row]) -> Section | None:
    """Reliability diagrams of the best recipe's teacher, student and student alone; a view per data set."""
    views = []
    for row in rows:
        traces, said = [], []
        for role, name, line, symbol in (
            ("teacher", "teacher", TEACHER, "diamond"),
            ("scratch", "student alone", ALONE, "square"),
            ("student", "student", {"color": "--student", "dash": "solid"}, "circle"),
        ):
            bins = _bins(row.recipe.jobs, role)
            if row.rank > 1 or not bins:
                continue
            errors = [job.test(role, "calibration_error") for job in row.recipe.jobs]
            error = 100 * fmean(each for each in errors if each is not None)
            traces.append(_reliability(f"{name}, ECE {error:.2f} %", bins, line, symbol))
            said.append(f"{name} {error:.2f} %")
        if traces:
            diagonal = {
                "type": "scatter",
                "mode": "lines",
                "x": [0, 100],
                "y": [0, 100],
                "name": "as sure as right",
                "line": {"color": "--quiet", "width": 1, "dash": "dot"},
                "hoverinfo": "skip",
            }
            x = {"title": {"text": "confidence (%)"}, "range": [0, 103]}
            y = {"title": {"text": "share that is right (%)"}, "range": [0, 103]}
            figure = {"data": [diagonal, *traces], "layout": layout(x, y)}
            says = f"Expected calibration error: {', '.join(said)}."
            views.append(View(_numbered(row, rows), says, {"Reliability": figure}))
    if not views:
        return None
    explains = (
        "Test images in 15 bins by how sure the network is of its answer, all seeds of the best recipe "
        f"counted together; a larger point has more images, bins of less than {FEWEST} are left out. Below "
        "the dotted line a network is surer than right, above it less sure."
    )
    return Section("calibration", "Is it as sure as it is right?", explains, views, "Recipe", square=True)


Bin = tuple[int, float, float]  # images, mean confidence and share that is right, in percent


def _bins(jobs: Sequence[Result], role: str) -> list[Bin]:
    """The bins that are drawn, of all seeds together."""
    summed: dict[int, tuple[int, float, float]] = {}
    for job in jobs:
        found = job.networks.get(role, {}).get("test", {}).get("calibration")
        if not found:
            continue
        each = zip(found["count"], found["confidence"], found["accuracy"], strict=True)
        for i, (count, confidence, accuracy) in enumerate(each):
            if count:
                n, sure, right = summed.get(i, (0, 0.0, 0.0))
                summed[i] = n + count, sure + count * confidence, right + count * accuracy
    kept = [each for _, each in sorted(summed.items()) if each[0] >= FEWEST]
    return [(n, 100 * sure / n, 100 * right / n) for n, sure, right in kept]


def _reliability(name: str, bins: Sequence[Bin], line: Mapping[str, Any], symbol: str) -> dict[str, Any]:
    most = max(count for count, _, _ in bins)
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "x": rounded([sure for _, sure, _ in bins]),
        "y": rounded([right for _, _, right in bins]),
        "text": [
            f"{name.split(',')[0]}<br>{count} images<br>confidence {sure:.2f} %<br>right {right:.2f} %"
            for count, sure, right in bins
        ],
        "hoverinfo": "text",
        "line": {**line, "width": 1.6},
        "marker": {
            "color": line["color"],
            "symbol": symbol,
            "size": [round(6 + 12 * (count / most) ** 0.5, 1) for count, _, _ in bins],
        },
    }
