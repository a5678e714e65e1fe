"""The confusion matrices of teacher and student, side by side."""

from collections.abc import Sequence
from typing import Any

from kdsweep.analysis.leaderboard import Row
from kdsweep.report.charts.figures import (
    MOST_LOOKED_INTO,
    Figure,
    Section,
    View,
    layout,
    looked_into,
    numbered,
    on_cells,
    only_some,
    plain,
    rounded,
    short,
    shown,
)
from kdsweep.results.result import JobResult

MOST_CLASSES = 100  # of a matrix that is drawn
MOST_COUNTED = 25  # classes; with more, numbers and names would be too small to read
LETTERS = 12  # of a class's name at the axis
DIFFERING = 3  # classes that are named


def confusion_section(rows: Sequence[Row]) -> Section | None:
    """The matrices of teacher and student, summed over all seeds: the best recipe's, or each one's if none
    is the best."""
    views = [view for row in looked_into(rows) if (view := _view(row))]
    if not views:
        return None
    explains = (
        "Test images by their true class (rows) and by the class that the network predicts (columns), summed "
        "over all seeds of the recipe; the colour is the share of the row. ± is half the 95 % interval over "
        "test images."
    )
    if not rows[0].rank:
        explains += only_some(rows, MOST_LOOKED_INTO)
    return Section("confusion", "Confusion", explains, views, "Recipe", square=True)


def _view(row: Row) -> View | None:
    matrices = {role: _summed(row.recipe.jobs, role) for role in ("teacher", "student")}
    found = {role: matrix for role, matrix in matrices.items() if matrix}
    classes = row.recipe.jobs[0].dataset.get("classes", [])
    if "student" not in found or not classes:
        return None
    figures = {}
    if len(classes) <= MOST_CLASSES:
        figures = {role.capitalize(): _matrix(matrix, classes) for role, matrix in found.items()}
    seeds = len(row.recipe.jobs)
    if "teacher" in found:
        says = _differing(found["teacher"], found["student"], classes, seeds)
    else:
        says = _weakest(found["student"], classes, seeds)
    return View(numbered(row), says, figures)


Matrix = list[list[int]]


def _summed(jobs: Sequence[JobResult], role: str) -> Matrix | None:
    evaluations = [evaluation for job in jobs if (evaluation := job.evaluation(role))]
    matrices = [evaluation.confusion for evaluation in evaluations if evaluation.confusion]
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
        "hovertext": [
            [
                f"{true} predicted as {taken}: {count}" if count else ""
                for taken, count in zip(names, row, strict=True)
            ]
            for true, row in zip(names, matrix, strict=True)
        ],
        "hoverinfo": "text",
        "xgap": 1,
        "ygap": 1,
    }
    data = [trace]
    if len(names) <= MOST_COUNTED:
        data.append(_counts(matrix))
    ticks: dict[str, Any] = {
        "showgrid": False,
        "zeroline": False,
        "showticklabels": len(names) <= MOST_COUNTED,
    }
    ticks |= {"tickmode": "array", "tickvals": list(range(len(names)))}
    ticks["ticktext"] = [plain(short(name, LETTERS)) for name in classes]
    x = {"title": {"text": "predicted class"}, "side": "bottom", **ticks}
    y = {"title": {"text": "true class"}, "autorange": "reversed", **ticks}
    return {"data": data, "layout": layout(x, y)}


def _counts(matrix: Matrix) -> dict[str, Any]:
    """The counts upon the cells that are not empty."""
    cells = [(j, i, count) for i, row in enumerate(matrix) for j, count in enumerate(row) if count]
    most = [2 * count > sum(matrix[i]) for _, i, count in cells]
    x, y, counts = zip(*cells, strict=True)
    font = {"size": 11, "color": ["--ground" if each else "--text" for each in most]}
    return on_cells(x, y, list(map(str, counts)), font)


def _share(matrix: Matrix, i: int) -> float:
    """The share of a class's images that the network recognises."""
    return matrix[i][i] / sum(matrix[i])


def _recognised(matrix: Matrix, i: int, seeds: int) -> str:
    """The share in percent, with half the 95 % interval over the class's images, by Wald."""
    share, images = _share(matrix, i), sum(matrix[i]) / seeds
    return shown(100 * share, half=196 * (share * (1 - share) / images) ** 0.5)


def _differing(teacher: Matrix, student: Matrix, classes: Sequence[str], seeds: int) -> str:
    """The classes on which the two networks differ most."""
    known = [i for i in range(len(classes)) if sum(teacher[i]) and sum(student[i])]
    gaps = {i: abs(_share(student, i) - _share(teacher, i)) for i in known}
    most = [i for i in sorted(known, key=lambda i: -gaps[i]) if gaps[i]][:DIFFERING]
    if not most:
        return "Teacher and student recognise the same share of every class."
    differences = [
        f"{classes[i]}: the student recognises {_recognised(student, i, seeds)}, the teacher "
        f"{_recognised(teacher, i, seeds)}{_taken_for(student[i], i, classes)}"
        for i in most
    ]
    return f"They differ most on {'; '.join(differences)}."


def _taken_for(row: Sequence[int], true: int, classes: Sequence[str]) -> str:
    """The class that the student most often predicts instead, if one class stands out."""
    wrong = [(count, i) for i, count in enumerate(row) if i != true and count]
    most = max(wrong, default=(0, 0))
    if [count for count, _ in wrong].count(most[0]) != 1:
        return ""
    errors = sum(count for count, _ in wrong)
    return f" (its most frequent mistake is {classes[most[1]]}: {most[0]} of {errors} errors)"


def _weakest(matrix: Matrix, classes: Sequence[str], seeds: int) -> str:
    known = [i for i in range(len(classes)) if sum(matrix[i])]
    worst = sorted(known, key=lambda i: _share(matrix, i))[:DIFFERING]
    shares = ", ".join(f"{classes[i]} ({_recognised(matrix, i, seeds)})" for i in worst)
    return f"The student recognises the smallest shares of {shares}."
