"""Table, CSV and picture of a sweep, from results made by hand."""

import csv
import re
from pathlib import Path
from unittest.mock import patch

import invented
import matplotlib.image
import pytest
from handmade import IMAGES, network
from invented import OPTIONS
from matplotlib.figure import Figure

from kdsweep.errors import KdsweepError
from kdsweep.report import tables as summary
from kdsweep.report.pictures.confusion import draw_confusion
from kdsweep.report.tables import write_report
from kdsweep.results.network import Cost
from kdsweep.results.record import Record
from kdsweep.results.result import JobResult, SweepInfo
from kdsweep.store.show import show_entries
from kdsweep.store.store import Store


def result(
    number: int, swept: dict, student: float, scratch: float = 0.8, teacher: float = 0.9, val: float = 0.5
):
    seed = swept.get("seed", 0)
    networks = {
        "teacher": network(f"teacher {teacher} {seed}", teacher),
        "scratch": network(f"scratch {scratch} {seed}", scratch),
        "student": network(f"student {number}", student, val),
    }
    data, recipe = {"images": {"test": IMAGES}}, {"student": "mlp", "teacher": "cnn"}
    chain = ["teacher", "student"]
    return JobResult(
        number, swept, seed, networks=networks, chain=chain, recipe=recipe, dataset=data, options=OPTIONS
    )


def summarize(results: list[JobResult], swept: list[str], folder: Path) -> list[Path]:
    """Write the report without its page, which takes longer."""
    record = Record(SweepInfo("", swept, len(results)), results)
    with patch("kdsweep.report.page.write_page"):
        return [file for file in write_report([record], folder) if file.name != "report.html"]


PICTURES = {"sweep.png", "f1.png", "roc_auc.png", "curves.png"}


@pytest.fixture
def axes(monkeypatch):
    """The axes of each figure that is drawn."""
    drawn = []
    original = Figure.subplots

    def subplots(figure, *arguments, **options):
        panels = original(figure, *arguments, **options)
        drawn.extend(panels[0])
        return panels

    monkeypatch.setattr(Figure, "subplots", subplots)
    return drawn


def lines(axes) -> dict[str, tuple[list, list]]:
    handles, labels = axes.get_legend_handles_labels()
    data = [handle[0] if hasattr(handle, "lines") else handle for handle in handles]
    return {
        label: (list(line.get_xdata()), list(line.get_ydata()))
        for label, line in zip(labels, data, strict=True)
        if hasattr(line, "get_xdata")  # a scatter's points have not
    }


def bars(axes) -> dict[str, list[float]]:
    """Half the error bars of each line."""
    found = {}
    for container in axes.containers:
        _, _, (bar,) = container.lines
        found[container.get_label()] = [(high - low) / 2 for (_, low), (_, high) in bar.get_segments()]
    return found


def test_the_table_is_sorted_by_validation_and_compares(tmp_path):
    results = [result(0, {"temperature": 1}, 0.85, val=0.6), result(1, {"temperature": 4}, 0.83, val=0.7)]
    files = summarize(results, ["temperature"], tmp_path)
    assert {file.name for file in files} == PICTURES | {"sweep.csv", "sweep.txt"}
    rows = [line.split() for line in (tmp_path / "sweep.txt").read_text().splitlines()]
    assert rows[1] == ["student", "4", "70.00", "83.00", "+3.00", "-7.00", "1.0", "s", "trained"]
    assert rows[2] == ["student", "1", "60.00", "85.00", "+5.00", "-5.00", "1.0", "s", "trained"]
    assert rows[3] == ["baseline", "50.00", "80.00", "-10.00", "1.0", "s", "trained"]
    assert rows[4] == ["teacher", "50.00", "90.00", "1.0", "s", "trained"]


def test_costs_and_curves_are_of_the_best_recipes_best_job(tmp_path, axes):
    values = {(1, 0): 0.9, (1, 1): 0.1, (4, 0): 0.6, (4, 1): 0.7}  # the luckiest seed is of the worse recipe
    jobs = [
        result(i, {"temperature": temperature, "seed": seed}, 0.8, val=val)
        for i, ((temperature, seed), val) in enumerate(values.items())
    ]
    summarize(jobs, ["temperature", "seed"], tmp_path)
    assert tables(tmp_path)[1].startswith(f"{jobs[3].name}  ")
    assert axes[-1].get_title() == jobs[3].name


def test_one_teacher_on_other_test_images_has_a_row_of_its_own(tmp_path):
    jobs = [result(i, {"dataset.test_limit": limit}, 0.8, teacher=0.9) for i, limit in enumerate((50, 100))]
    for job, limit, accuracy in zip(jobs, (50, 100), (0.9, 0.95), strict=True):
        job.dataset = {"test_fingerprint": "same", "images": {"test": limit}}
        job.networks["teacher"] = network("teacher", accuracy)
    summarize(jobs, ["dataset.test_limit"], tmp_path)
    rows = [line.split() for line in (tmp_path / "sweep.txt").read_text().splitlines()]
    assert [row[1:4:2] for row in rows if row[:1] == ["teacher"]][:2] == [["50", "90.00"], ["100", "95.00"]]


def test_swept_values_are_no_markup(tmp_path):
    swept = {"[/b]": "x[/b]y", "student": "[red]:smile:"}
    summarize([result(0, swept, 0.85)], list(swept), tmp_path)
    lines = [line.split() for line in (tmp_path / "sweep.txt").read_text().splitlines()]
    assert lines[0][:2] == list(swept) and lines[1][1:3] == list(swept.values())


def test_names_in_the_store_are_no_markup(tmp_path, capsys):
    store = Store(tmp_path).made()
    (tmp_path / "damaged" / "[bold]x").mkdir()
    show_entries(store, None, False)
    assert "[bold]x" in capsys.readouterr().out


def test_a_picture_that_fails_loses_no_other_and_no_page(tmp_path, monkeypatch):
    def fail(*arguments):
        raise ValueError("no such colour\nin the second line")

    monkeypatch.setattr(summary, "main_charts", fail)
    written = []
    with pytest.raises(KdsweepError) as told:
        for file in write_report([invented.sweep(epochs=2)], tmp_path):
            written.append(file.name)
    assert written == ["sweep.csv", "report.html", "sweep.txt", "curves.png"], "the page before the pictures"
    assert str(told.value) == "sweep.png, f1.png, roc_auc.png: ValueError: no such colour"
    (tmp_path / "report.html").unlink()
    (tmp_path / "report.html").mkdir()
    monkeypatch.undo()
    written.clear()
    with pytest.raises(KdsweepError, match=r"^report\.html: .*: Is a directory"):
        for file in write_report([invented.sweep(epochs=2)], tmp_path):
            written.append(file.name)
    assert set(written) == PICTURES | {"sweep.csv", "sweep.txt"}


def test_a_picture_without_values_is_left_out(tmp_path):
    results = [result(i, {"temperature": t}, 0.8) for i, t in enumerate((1, 4))]
    for each in results:
        for figures in each.networks.values():
            figures.test.roc_auc = None
    files = summarize(results, ["temperature"], tmp_path)
    assert {file.name for file in files} == PICTURES - {"roc_auc.png"} | {"sweep.csv", "sweep.txt"}


def test_failed_jobs_stand_in_the_csv_alone(tmp_path):
    failed = JobResult(1, {"temperature": 4}, error="the loss is no longer finite")
    summarize([result(0, {"temperature": 1}, 0.85), failed], ["temperature"], tmp_path)
    with (tmp_path / "sweep.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["error"] for row in rows] == ["", "the loss is no longer finite"]
    assert [row["test_accuracy"] for row in rows] == ["0.85", ""]
    assert (tmp_path / "sweep.txt").read_text().count("student ") == 2, "in the table and among the costs"


def test_without_a_finished_job_there_is_only_the_csv(tmp_path):
    assert [file.name for file in summarize([JobResult(0, {}, error="no")], [], tmp_path)] == ["sweep.csv"]


def test_temperature_has_a_log_axis_and_level_baselines(tmp_path, axes):
    results = [result(i, {"temperature": t}, 0.8 + t / 1000) for i, t in enumerate([1, 2, 4, 16, 32, 64])]
    summarize(results, ["temperature"], tmp_path)
    drawn = axes[0]
    assert drawn.get_xscale() == "log"
    assert [text.get_text() for text in drawn.get_xticklabels()] == ["1", "2", "4", "16", "32", "64"]
    shown = lines(drawn)
    assert shown["student"][0] == [1, 2, 4, 16, 32, 64]
    assert shown["student"][1] == pytest.approx([100 * (0.8 + t / 1000) for t in (1, 2, 4, 16, 32, 64)])
    assert shown["teacher 90.00 %"][1] == [90, 90]
    assert shown["baseline 80.00 %"][1] == [80, 80]
    assert matplotlib.image.imread(tmp_path / "sweep.png").std() > 0.05, "something is drawn"


def test_seeds_are_averaged_and_other_keys_are_lines(tmp_path, axes):
    results = [
        result(0, {"temperature": 1, "alpha": 0.1, "seed": 0}, 0.80, scratch=0.70),
        result(1, {"temperature": 1, "alpha": 0.1, "seed": 1}, 0.82, scratch=0.72),
        result(2, {"temperature": 1, "alpha": 0.5, "seed": 0}, 0.90, scratch=0.70),
        result(3, {"temperature": 1, "alpha": 0.5, "seed": 1}, 0.94, scratch=0.72),
    ]
    summarize(results, ["temperature", "alpha", "seed"], tmp_path)
    drawn = axes[0]
    shown = lines(drawn)
    assert shown["student"] == ([0.1, 0.5], pytest.approx([81, 92]))
    (baseline,) = (label for label in shown if label.startswith("baseline 71.00 ±"))
    assert shown[baseline][1] == pytest.approx([71, 71])
    assert drawn.get_title() == "mean and 95 % interval over 2 seeds and test images"
    # differing by 2, deviation √2, t(1) = 12.7062; and a little for the images
    assert 12.7062 < bars(drawn)["student"][0] < 14
    band = drawn.patches[-1].get_extents().transformed(drawn.transData.inverted())
    assert (band.y0 + band.y1) / 2 == pytest.approx(71) and 12.7062 < (band.y1 - band.y0) / 2 < 14


def test_baselines_that_differ_are_no_level_line(tmp_path, axes):
    results = [result(i, {"training.epochs": e}, 0.8, scratch=0.7 + e / 100) for i, e in enumerate([1, 2])]
    summarize(results, ["training.epochs"], tmp_path)
    assert lines(axes[0])["baseline"] == ([1, 2], pytest.approx([71, 72]))
    assert "teacher 90.00 %" in lines(axes[0])


@pytest.mark.parametrize(
    ("swept", "values"),
    [
        (["student"], [{"student": "mlp"}, {"student": "mine"}]),
        (["student.model.hidden"], [{"student.model.hidden": [16]}, {"student.model.hidden": [32, 16]}]),
        (["seed"], [{"seed": 0}, {"seed": 1}]),
        ([], [{}]),
        (["temperature", "alpha"], [{"temperature": 1 + i / 7, "alpha": i / 20} for i in range(20)]),
    ],
)
def test_whatever_was_swept_is_drawn(tmp_path, axes, swept, values):
    results = [result(i, value, 0.8 + i / 100) for i, value in enumerate(values)]
    summarize(results, swept, tmp_path)
    assert (tmp_path / "sweep.png").stat().st_size > 5000
    assert len(axes[0].get_legend_handles_labels()[1]) <= 6


def test_each_usual_key_that_is_swept_has_a_panel(tmp_path, axes):
    values = [{"temperature": t, "alpha": a} for t in (1, 4) for a in (0.1, 0.5)]
    results = [result(i, value, 0.8 + i / 100) for i, value in enumerate(values)]
    summarize(results, ["temperature", "alpha"], tmp_path)
    first, second = axes[:2]
    assert [first.get_xlabel(), second.get_xlabel()] == ["temperature T", "alpha α"]
    assert lines(first)["student, α=0.5"] == ([1, 4], pytest.approx([81, 83]))
    assert lines(second)["student, T=4"] == ([0.1, 0.5], pytest.approx([82, 83]))


def test_f1_is_of_the_positive_class_where_there_is_one(tmp_path, axes):
    results = [result(i, {"temperature": t}, 0.8) for i, t in enumerate((1, 4))]
    summarize(results, ["temperature"], tmp_path)
    f1 = axes[1]
    assert lines(f1)["student"][1] == pytest.approx([0.7, 0.7])
    assert f1.get_ylabel() == "test macro F1"
    for each in results:
        each.student.test.f1, each.student.test.positive_class = 0.66, "SSA"
    axes.clear()
    summarize(results, ["temperature"], tmp_path)
    f1 = axes[1]
    assert lines(f1)["student"][1] == pytest.approx([0.66, 0.66])
    assert f1.get_ylabel() == "test F1 of SSA"


def tables(folder) -> list[str]:
    """The sweep's table and that of the costs."""
    return re.split(r"\n\s*\n", (folder / "sweep.txt").read_text().rstrip())


def chained(number: int, length: int, seed: int = 0) -> JobResult:
    """A job of a born-again chain, whose generations are shared between the lengths."""
    made = result(number, {"chain_length": length, "seed": seed}, 0)
    made.chain = ["teacher", *(f"generation{i}" for i in range(1, length)), "student"]
    for i, role in enumerate(made.chain):
        made.networks[role] = network(f"link {i} {seed}", 0.7 + i / 50 + seed / 100)
    made.networks["ensemble"] = network(f"ensemble {length} {seed}", 0.9)
    made.networks["ensemble"].history, made.networks["ensemble"].members = [], made.chain
    return made


def test_every_link_has_a_row_and_a_point(tmp_path, axes):
    results = [chained(0, 1), chained(1, 3)]
    files = summarize(results, ["chain_length"], tmp_path)
    assert {file.name for file in files} == PICTURES | {"sweep.csv", "sweep.txt", "chain.png"}
    table, costs = tables(tmp_path)
    labels = [re.split(r"\s{2,}", line)[0] for line in table.splitlines()[1:]]
    # the first generation of the long chain is the student of the short one
    assert labels == ["student", "student", "ensemble", "ensemble", "generation 2", "baseline", "teacher"]
    assert [line.split("  ")[0].strip() for line in costs.splitlines()[1:]] == [
        "teacher",
        "student",
        "ensemble",
    ]
    shown = lines(axes[-1])
    assert shown["chain_length=3"] == ([0, 1, 2, 3], pytest.approx([70, 72, 74, 76]))
    assert shown["chain_length=1"] == ([0, 1], pytest.approx([70, 72]))
    with (tmp_path / "sweep.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert (
        rows[1]["generation2_accuracy"]
        and rows[1]["ensemble_macro_f1"]
        and not rows[0]["generation2_accuracy"]
    )


def test_seeds_of_a_chain_are_averaged(tmp_path, axes):
    summarize([chained(0, 2), chained(1, 2, seed=1)], ["chain_length", "seed"], tmp_path)
    assert lines(axes[-1])["chain_length=2"][1] == pytest.approx([70.5, 72.5, 74.5])
    ticks = [text.get_text() for text in axes[-1].get_xticklabels()]
    assert ticks == ["teacher", "generation 1", "student"]
    # differing by 1; and a little for the images
    assert all(6.3531 < bar < 9 for bar in bars(axes[-1])["chain_length=2"])
    assert axes[-1].get_title() == "mean and 95 % interval over 2 seeds and test images"


def test_a_student_alone_is_no_chain(tmp_path, axes):
    alone = result(0, {"method": "scratch"}, 0.8)
    alone.networks, alone.chain = {"student": alone.networks["student"]}, ["student"]
    chain = chained(1, 2)
    chain.swept["method"] = "ban"
    summarize([alone, chain], ["method"], tmp_path)
    assert set(lines(axes[-1])) == {"method=ban", "ensemble", "baseline (80.00)"}
    ticks = [text.get_text() for text in axes[-1].get_xticklabels()]
    assert ticks == ["teacher", "generation 1", "student"]


def test_curves_are_of_distilled_and_alone(tmp_path, axes):
    summarize([result(0, {}, 0.8, val=0.75)], [], tmp_path)
    shown = lines(axes[-1])
    assert shown["distilled, validation"] == ([1, 2], [75, 75])
    assert shown["distilled, training"] == ([1, 2], [60, 70])
    assert shown["baseline, validation"] == ([1, 2], [50, 50])


def test_the_cost_table_compares_every_link_with_the_teacher(tmp_path):
    job = chained(0, 2)
    job.student.cost = Cost(250, 1e6, 2000, 0.1)
    summarize([job], ["chain_length"], tmp_path)
    rows = {re.split(r"\s{2,}", line)[0]: line.split() for line in tables(tmp_path)[1].splitlines()}
    assert [cell for cell in rows["student"] if "×" in cell] == ["4.00×", "2.00×", "2.00×", "5.00×"]
    assert rows["generation 1"][2:4] == ["1,000", "1.00×"]
    assert not any("×" in cell for cell in rows["teacher"])


def test_confusion_matrices_of_few_and_many_classes(tmp_path):
    draw_confusion([[5, 1], [0, 7]], ["cat", "dog"], tmp_path / "two.png")
    many = [[int(i == j) for j in range(40)] for i in range(40)]
    draw_confusion(many, [f"class {i}" for i in range(40)], tmp_path / "many.png")
    assert (tmp_path / "two.png").exists() and (tmp_path / "many.png").exists()
