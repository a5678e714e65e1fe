"""The report's page from results made by hand: its sections, its figures, what it makes of strange names."""

import math
import re
import time
from dataclasses import replace
from html import unescape
from statistics import fmean, stdev
from typing import Any

import invented
import numpy as np
import pytest
from pages import Page, nasty
from scipy import stats

from kdsweep.analysis.statistics import interval
from kdsweep.report.charts.figures import Axis
from kdsweep.report.charts.pareto import Point, pareto
from kdsweep.results.names import Option
from kdsweep.results.network import Calibration, Selection
from kdsweep.results.packed import pack_bits
from kdsweep.results.record import Record
from kdsweep.results.result import INTERRUPTED, PRUNED, JobResult, SweepInfo

ALL = ["ship", "leaderboard", "swept", "map", "cost", "curves", "confusion", "calibration", "time", "origin"]


def lost_job(number: int, swept: dict, error: str) -> JobResult:
    return JobResult(number, swept, options=invented.OPTIONS, error=error)


def test_a_sweep_has_every_section_but_that_of_chains(tmp_path):
    page = Page(tmp_path, invented.sweep())
    assert page.sections == ALL
    assert re.findall(r'<a href="#(\w+)"', page.text) == ALL
    assert "mlp taught by mnist_cnn on digits" in page.text
    assert "18 jobs over temperature, alpha, seed · 22 November 2026, 07:52 UTC" in page.text


def test_the_leaderboard_has_the_mean_of_each_recipe_and_its_interval(tmp_path):
    record = invented.sweep()
    head, *rows = Page(tmp_path, record).table("Leaderboard")
    assert head[:7] == ["rank", "temperature", "alpha", "test %", "vs baseline", "vs teacher", "val %"]
    assert len(rows) == 6
    for row in rows:
        jobs = [
            job
            for job in record.results
            if (str(job.swept["temperature"]), str(job.swept["alpha"])) == (row[1], row[2])
        ]
        tests = [100 * job.student.test.accuracy for job in jobs]
        gains = [
            value - 100 * job.networks["scratch"].test.accuracy
            for value, job in zip(tests, jobs, strict=True)
        ]
        for cell, values in ((row[3], tests), (row[4], gains)):
            mean, half_width = cell.replace("−", "-").split(" ± ")
            assert float(mean) == pytest.approx(fmean(values), abs=0.006)
            assert float(half_width) >= half(values) - 0.006, "seeds, and images besides"
        assert row[-1] == "3"
    val = [float(row[6].split()[0]) for row in rows]
    assert val == sorted(val, reverse=True)


def half(values: list[float]) -> float:
    return float(stats.t.ppf(0.975, len(values) - 1) * stdev(values) / math.sqrt(len(values)))


def test_lines_are_of_means_and_the_compared_are_level(tmp_path):
    record = invented.sweep()
    page = Page(tmp_path, record)
    line = page.trace("swept", "student, α=0.1")
    for i, temperature in enumerate((1, 4, 16)):
        tests = [
            100 * job.student.test.accuracy
            for job in record.results
            if job.swept["temperature"] == temperature and job.swept["alpha"] == 0.1
        ]
        assert line["y"][i] == pytest.approx(fmean(tests), abs=1e-3)
        assert line["error_y"]["array"][i] == pytest.approx(half(tests), abs=1e-3)
        assert line["x"][i] == pytest.approx(temperature, rel=0.05), "but for what parts the lines"
    teacher = page.trace("swept", "teacher")
    each = [100 * job.networks["teacher"].test.accuracy for job in record.results[:3]]
    assert teacher["y"] == pytest.approx([fmean(each)] * 2, abs=1e-3)
    alphas = page.charts["swept"][0]["figures"][1]["data"]
    assert {trace.get("name") for trace in alphas} >= {"student, T=1", "student, T=4", "student, T=16"}
    views = re.findall(r"<option[^>]*>(.*?)</option>", page.text)
    assert {"test accuracy", "validation accuracy", "test macro F1", "test ROC AUC"} <= set(views)


def test_a_line_and_a_symbol_are_told_apart_without_colour(tmp_path):
    record = invented.sweep({"temperature": (1, 4), "alpha": tuple(i / 11 for i in range(12))})
    traces = Page(tmp_path, record).charts["swept"][0]["figures"][0]["data"]
    students = [trace for trace in traces if trace["name"].startswith("student, ")]
    styles = {(trace["line"]["dash"], trace["marker"]["symbol"]) for trace in students}
    assert len(students) == len(styles) == 12


def test_the_map_has_a_cell_for_each_pair(tmp_path):
    record = invented.sweep()
    cells = Page(tmp_path, record).charts["map"][0]["figures"][0]["data"][0]
    assert (cells["x"], cells["y"]) == (["1", "4", "16"], ["0.1", "0.5"])
    tests = [
        100 * job.student.test.accuracy
        for job in record.results
        if job.swept["temperature"] == 16 and job.swept["alpha"] == 0.1
    ]
    assert cells["z"][0][2] == pytest.approx(fmean(tests), abs=1e-3)


def test_the_front_has_what_none_beats():
    def point(cost: float, accuracy: float) -> Point:
        return Point("student", "", {"flops": cost}, interval([accuracy]))

    best, beaten = [point(1, 90), point(2, 95), point(5, 99)], [point(1, 80), point(3, 95), point(5, 98)]
    assert pareto([*beaten, *best], "flops") == best
    level = point(2, 95)
    assert pareto([*best, level], "flops") == [*best[:2], level, best[2]]


def test_a_network_is_one_point_of_all_its_seeds_though_a_job_of_a_recipe_failed(tmp_path):
    record = invented.sweep({"temperature": (1, 4), "seed": (0, 1, 2)})
    record.results[0].error = "the loss is no longer finite"
    page = Page(tmp_path, record)
    teachers = [job.networks["teacher"].test.accuracy for job in record.results[3:]]
    assert page.trace("cost", "teacher")["y"] == pytest.approx([100 * fmean(teachers)], abs=1e-3)
    assert len(page.trace("cost", "baseline")["y"]) == 1
    assert len(page.trace("cost", "student")["y"]) == 2


def test_a_map_is_of_any_two_numbers_of_a_method(tmp_path):
    record = invented.sweep({"alpha": (0.1, 0.5), "method.terms.dkd.beta": (1, 8), "training.epochs": (2, 4)})
    for job in record.results:
        job.options = {"alpha": Option("α"), "method.terms.dkd.beta": Option("β", "log")}
    page = Page(tmp_path, record)
    ((heading, figure),) = [(each["heading"], each) for each in page.charts["map"][0]["figures"]]
    assert heading == "Alpha × dkd beta"
    assert figure["layout"]["xaxis"]["title"]["text"] == "alpha α"
    assert figure["layout"]["yaxis"]["title"]["text"] == "dkd beta β"
    assert figure["data"][0]["y"] == ["1", "8"] and len(figure["data"][0]["z"]) == 2
    assert "All have training.epochs=" in page.charts["map"][0]["says"]
    for job in record.results:
        job.options = {"alpha": Option("α")}
    assert "map" not in Page(tmp_path, record).sections, "of one number there is none"


def test_equal_figures_are_called_so(tmp_path):
    record = invented.sweep({"temperature": (1, 4, 16), "alpha": (0.1, 0.5)})
    for job in record.results:
        best = (job.swept["temperature"], job.swept["alpha"]) in ((4, 0.1), (4, 0.5), (16, 0.1), (16, 0.5))
        right = np.arange(360) < (349 if best else 345)
        job.student.test.accuracy, job.student.test.right = float(right.mean()), pack_bits(right)
        job.student.val.accuracy = 0.9 if best else 0.8
    page = Page(tmp_path, record)
    along, places = (page.charts[each][0]["says"].replace("\u00a0", " ") for each in ("swept", "map"))
    assert (
        "The test accuracy ranges from 95.83 ± 2.07 % (temperature 1) to 96.94 ± 1.79 % (temperature 4)"
        in along
    )
    assert (
        "The test accuracy is 96.94 % for each alpha (with T=4, as in the best recipe by validation)."
        in along
    )
    assert "Test accuracy of the best recipe by validation, T=4 α=0.5, is 96.94 ± 1.79 %;" in places
    assert "all recipes lie between 95.83 ± 2.07 % and 96.94 ± 1.79 %." in places


def test_only_lines_that_are_drawn_are_explained(tmp_path):
    alone = "Lines without points are the teacher and the baseline"
    several = Page(tmp_path, invented.sweep({"temperature": (1, 4), "seed": (0, 1)})).text
    assert f"{alone}, with their intervals as bands." in several and "Points are means over seeds" in several
    one = Page(tmp_path, invented.sweep({"temperature": (1, 4)}, roles=("teacher",))).text
    assert "Each point is one student. Lines without points are the teacher." in one


def test_curves_are_means_over_the_seeds_that_got_so_far(tmp_path):
    record = invented.sweep({"seed": (0, 1)}, epochs=4)
    student = record.results[1].student
    student.history, student.best_epoch = student.history[:2], 2
    line = Page(tmp_path, record).trace("curves", "distilled, validation")
    first, second = ([100 * epoch["val/accuracy"] for epoch in job.student.history] for job in record.results)
    expected = [fmean(pair) for pair in zip(first, second, strict=False)] + first[2:]
    assert line["y"] == pytest.approx(expected, abs=1e-3)


def test_the_classes_that_differ_most_are_named(tmp_path):
    record = invented.sweep({"temperature": (1,)}, classes=("cat", "dog", "cow"))
    networks = record.results[0].networks
    networks["teacher"].test.confusion = [[10, 0, 0], [1, 9, 0], [0, 0, 10]]
    networks["student"].test.confusion = [[10, 0, 0], [1, 8, 1], [2, 4, 4]]
    says = Page(tmp_path, record).charts["confusion"][0]["says"].replace("\u00a0", " ")
    assert says == (
        "They differ most on cow: the student recognises 40.00 ± 30.36 %, the teacher 100.00 % (its most "
        "frequent mistake is dog: 4 of 6 errors); dog: the student recognises 80.00 ± 24.79 %, the teacher "
        "90.00 ± 18.59 %."
    )


def test_bins_of_seeds_are_counted_together(tmp_path):
    record = invented.sweep({"seed": (0, 1)})
    for job, (count, right) in zip(record.results, ((30, 1.0), (10, 0.6)), strict=True):
        empty: list[Any] = [None] * 14
        job.student.test.calibration = Calibration([0] * 14 + [count], [*empty, 0.98], [*empty, right])
        job.student.test.calibration_error = 0.05
    point = Page(tmp_path, record).trace("calibration", "student, ECE 5.00 %")
    assert (point["x"], point["y"]) == (pytest.approx([98]), pytest.approx([90]))


def test_results_without_bins_have_no_calibration(tmp_path):
    record = invented.sweep()
    for job in record.results:
        for network in job.networks.values():
            network.test.calibration = None
    assert Page(tmp_path, record).sections == [name for name in ALL if name != "calibration"]


def test_what_is_not_there_is_left_out(tmp_path):
    alone = Page(tmp_path, invented.sweep({"training.learning_rate": (0.1, 0.001)}, roles=()))
    assert alone.sections == [name for name in ALL if name not in ("map", "cost")]
    assert "vs teacher" not in alone.text and "taught by" not in alone.text
    assert alone.charts["swept"][0]["figures"][0]["layout"]["xaxis"]["type"] == "log"
    job = Page(tmp_path, invented.sweep({}))
    assert job.sections == [name for name in ALL if name not in ("swept", "map")]
    seeds = Page(tmp_path, invented.sweep({"seed": (0, 1, 2)}))
    assert seeds.trace("swept", "student")["x"] == [0, 1, 2]


def test_words_stand_side_by_side(tmp_path):
    page = Page(tmp_path, invented.sweep({"student": ("mlp", "wrn_16_2"), "seed": (0, 1)}))
    axis = page.charts["swept"][0]["figures"][0]["layout"]["xaxis"]
    assert (axis["ticktext"], axis["tickvals"]) == (["mlp", "wrn_16_2"], [0, 1])
    assert "map" not in page.sections


def test_lists_stand_side_by_side_as_text(tmp_path):
    record = invented.sweep({"student.model.hidden": ([256], [784, 784]), "seed": (0, 1)})
    for job in record.results:  # a baseline for each, so that it changes along the axis
        job.networks["scratch"] = invented.network("scratch", str(sorted(job.swept.items())))
    page = Page(tmp_path, record)
    axis = page.charts["swept"][0]["figures"][0]["layout"]["xaxis"]
    assert axis["ticktext"] == ["[256]", "[784, 784]"]
    assert page.trace("swept", "baseline")["x"] == [0, 1]
    assert "The test accuracy ranges from " in page.charts["swept"][0]["says"]
    assert {row[1] for row in page.table("Leaderboard")[1:]} == {"[256]", "[784, 784]"}


def test_alpha_1_is_one_network_at_all_temperatures_of_the_heat_map(tmp_path):
    record = invented.sweep({"temperature": (1, 4), "alpha": (0.1, 1), "seed": (0, 1)})
    for result in record.results:
        if result.swept["alpha"] == 1:
            result.networks["student"] = result.networks["scratch"]
    page = Page(tmp_path, record)
    heads, *rows = page.table("Leaderboard")
    temperature, alpha = heads.index("temperature"), heads.index("alpha")
    assert sorted((row[alpha], row[temperature]) for row in rows) == [("0.1", "1"), ("0.1", "4"), ("1", "")]
    cells = page.charts["map"][0]["figures"][0]["data"][0]
    assert (cells["x"], cells["y"]) == (["1", "4"], ["0.1", "1"])
    low, high = cells["z"]
    assert high[0] == high[1] and None not in (*low, *high)


def test_a_flag_stands_as_a_word(tmp_path):
    page = Page(tmp_path, invented.sweep({"training.optimizer.nesterov": (False, True), "seed": (0, 1)}))
    assert page.charts["swept"][0]["figures"][0]["layout"]["xaxis"]["ticktext"] == ["False", "True"]


def with_the_student_alone(best: bool) -> Record:
    """A grid of distillation beside method=scratch, which has neither temperature nor alpha."""
    record = invented.sweep({"method": ("kd",), "temperature": (1, 4), "alpha": (0.1, 0.5)})
    alone = invented.job(4, {"method": "scratch"}, roles=())
    alone.student.val.accuracy = 0.999 if best else 0.1
    return Record(record.sweep, [*record.results, alone])


@pytest.mark.parametrize("best", [True, False])
def test_the_student_alone_among_the_recipes_takes_no_chart_away(tmp_path, best):
    page = Page(tmp_path, with_the_student_alone(best))
    cells = page.charts["map"][0]["figures"][0]["data"][0]
    assert (cells["x"], cells["y"]) == (["1", "4"], ["0.1", "0.5"])
    told = "as the best recipe with both has." if best else "as the best recipe has."
    assert page.charts["map"][0]["says"].endswith(f"All have method=kd, {told}")
    headings = [figure["heading"] for figure in page.charts["swept"][0]["figures"]]
    lines = page.charts["swept"][0]["figures"][headings.index("Against temperature")]["data"]
    names = {trace["name"] for trace in lines if trace.get("name", "").startswith("student, ")}
    assert names == {"student, method=kd α=0.1", "student, method=kd α=0.5"}


def test_an_axis_of_a_temperature_is_logarithmic_and_of_an_alpha_is_not():
    assert Axis.of("T", [1, 4, 16], log=True).log and not Axis.of("alpha", [0, 0.5, 1]).log
    axis = Axis.of("T", [4, 1, 16, 4], log=True)
    assert axis.values == [1, 4, 16] and axis.at(4) == 4
    low, high = axis.ends
    assert 0 < low < 1 and high > 16


def test_links_of_a_chain_have_rows(tmp_path):
    record = invented.sweep(
        {"chain_length": (2,), "seed": (0, 1)}, roles=("teacher", "assistant1", "scratch")
    )
    page = Page(tmp_path, record)
    assert "links" in page.sections
    _, *rows = page.table("Links of the chains")
    assert [row[1] for row in rows] == ["teacher", "assistant 1", "student", "baseline"]
    tests = [100 * job.networks["assistant1"].test.accuracy for job in record.results]
    assert rows[1][2] == "small_cnn" and rows[1][3].startswith(f"{fmean(tests):.2f} ± ")


def test_links_are_of_chains_that_have_some(tmp_path):
    chain = invented.job(0, {"method": "takd"}, roles=("teacher", "assistant1", "scratch"))
    others = [
        invented.job(1, {"method": "scratch"}, roles=()),
        invented.job(2, {"method": "kd"}),
        invented.job(3, {"method": "ban"}, roles=("generation1",)),
    ]
    others[2].chain = ["generation1", "generation2", "student"]
    others[2].networks["generation2"] = others[2].networks["generation1"]
    page = Page(tmp_path, Record(SweepInfo("p", ["method"], 4), [chain, *others]))
    _, *rows = page.table("Links of the chains")
    assert {row[0] for row in rows} == {"method=takd", "method=ban"}
    above = {row[1]: row[5] for row in rows if row[0] == "method=ban"}
    assert above == {"generation 1": "", "generation 2": "", "student": ""}, "without a teacher"


def test_what_was_trained_as_another_jobs_student_was_not_found(tmp_path):
    one, two = (invented.job(i, {"chain_length": i + 1}, roles=("teacher",)) for i in range(2))
    first = one.networks["student"]
    two.networks["generation1"] = replace(first, reused=True)
    two.chain = ["teacher", "generation1", "student"]
    page = Page(tmp_path, Record(SweepInfo("p", ["chain_length"], 2), [one, two]))
    _, *rows = page.table("Time and reuse by role")
    told = {row[0]: row[1:] for row in rows}
    assert told["student"] == ["2", "2", "2", "0", "6.0 s", "0.0 s"]
    assert told["generation 1"] == ["1", "1", "1", "0", "0.0 s", "3.0 s"]
    assert "3 networks were trained in 9.0 s." in page.text


def test_times_count_each_network_once(tmp_path):
    page = Page(tmp_path, invented.sweep())
    _, *rows = page.table("Time and reuse by role")
    # of three teachers the first job trained one; the others were there
    assert rows == [
        ["teacher", "18", "3", "1", "2", "3.0 s", "51.0 s"],
        ["baseline", "18", "3", "1", "2", "3.0 s", "51.0 s"],
        ["student", "18", "18", "18", "0", "54.0 s", "0.0 s"],
    ]
    assert "20 networks were trained in 60.0 s." in page.text


def test_failed_jobs_are_listed_with_their_error(tmp_path):
    record = invented.sweep()
    lost = JobResult(
        18,
        {"temperature": 64, "alpha": 0.1, "seed": 0},
        options=invented.OPTIONS,
        error="the loss is no longer finite\nat 3",
    )
    page = Page(tmp_path, Record(record.sweep, [*record.results, lost]))
    assert "1 job failed" in page.text
    assert "job 18, T=64 α=0.1 seed=0" in page.text and "the loss is no longer finite\nat 3" in page.text
    assert len(page.table("Leaderboard")) == 7, "recipes that have results alone"


def test_lost_jobs_are_those_of_the_answer(tmp_path):
    record = invented.sweep({"temperature": (1, 4), "seed": (0, 1)})
    lost = [
        lost_job(4, {"temperature": 1, "seed": 0}, "tried again, and finished"),
        lost_job(5, {"temperature": 1, "seed": 1}, INTERRUPTED),
        lost_job(6, {"temperature": 4, "seed": 0}, PRUNED),
        lost_job(7, {"temperature": 16, "seed": 0}, "no such file"),
        lost_job(8, {"temperature": 16, "seed": 1}, INTERRUPTED),
        lost_job(9, {"temperature": 32, "seed": 0}, PRUNED),
        lost_job(10, {"temperature": 4, "seed": 2}, INTERRUPTED),
        lost_job(11, {"temperature": 4, "seed": 3}, "no such file"),
    ]
    page = Page(tmp_path, Record(record.sweep, [*record.results, *lost]))
    text = " ".join(page.text.split())
    assert "<summary>2 jobs failed</summary>" in text and "no such file" in text
    assert "2 jobs were interrupted: job 10, T=4 seed=2; job 8, T=16 seed=1." in text
    assert "1 job was pruned" in text
    assert "tried again" not in text
    assert 'title="1 failed, 1 interrupted">2</td>' in text, "of T=4, of which two finished"
    for told in ("2 of 12 jobs failed", "2 of 12 jobs were interrupted.", "1 of 12 jobs was pruned"):
        assert told in text


def test_the_file_to_ship_is_the_best_recipes_best_seed(tmp_path):
    record = invented.sweep({"temperature": (1, 4), "seed": (0, 1, 2)})
    figures = {1: (0.99, 0.5, 0.5), 4: (0.9, 0.95, 0.95)}  # the best job is not of the best recipe
    for job in record.results:
        accuracy = figures[job.swept["temperature"]][job.seed]
        job.student.key, job.student.val = f"key{job.number}", Selection(accuracy, 1 - job.seed / 10)
    page = Page(tmp_path, record)
    ship = page.text[page.text.index('<section id="ship"') : page.text.index('<section id="leaderboard"')]
    assert re.findall("<dd>(.*?)</dd>", ship) == [
        "T=4 seed=2, 95.00 % validation accuracy",
        "run5",
        "stage:key5",
    ]
    assert ">kdsweep-export run5 --to onnx --out shipped</pre>" in ship


def test_another_mlflow_is_told_to_the_export(tmp_path):
    record = invented.sweep({"seed": (0,)})
    record.sweep.config["tracking"] = {"uri": "sqlite:///else where.db"}
    command = "kdsweep-export run0 --to onnx --out shipped --tracking-uri 'sqlite:///else where.db'"
    assert command in unescape(Page(tmp_path, record).text)


def test_without_a_run_there_is_no_command_and_without_a_network_nothing_to_ship(tmp_path):
    record = invented.sweep({"seed": (0,)})
    record.results[0].run_id = None
    assert "kdsweep-export" not in Page(tmp_path, record).text
    lost = Record(record.sweep, [lost_job(0, {"seed": 0}, INTERRUPTED)])
    page = Page(tmp_path, lost)
    assert page.sections == ["leaderboard", "origin"] and "1 job was interrupted" in page.text


def test_each_data_set_has_a_file_to_ship(tmp_path):
    page = Page(tmp_path, invented.sweep({"seed": (0,)}), invented.sweep({"seed": (0,)}, name="mnist"))
    ship = page.text[page.text.index('<section id="ship"') : page.text.index('<section id="leaderboard"')]
    assert re.findall("<h3>(.*?)</h3>", ship) == ["digits", "mnist"]
    assert ship.count("kdsweep-export run0") == 2


def test_of_jobs_that_all_failed_the_errors_are_shown(tmp_path):
    record = Record(
        SweepInfo("p", ["temperature"], 1),
        [lost_job(0, {"temperature": 1}, "no such file")],
    )
    page = Page(tmp_path, record)
    assert page.sections == ["leaderboard", "origin"] and page.charts == {}
    assert "no such file" in page.text and page.file.stat().st_size < 100_000


def test_several_sweeps_have_one_leaderboard_and_each_its_command(tmp_path):
    page = Page(tmp_path, invented.sweep(), invented.sweep({"temperature": (2, 8), "seed": (0, 1)}, begin=0))
    assert "2 sweeps combined, 22 jobs" in page.text
    assert page.text.count('class="copy" data-of="command-') == 2
    assert "temperature=2,8 seed=0,1" in page.text
    assert len(page.table("Leaderboard")) == 1 + 6 + 2


def test_data_sets_are_not_mixed_in_a_chart(tmp_path):
    other = invented.sweep({"temperature": (2, 8), "seed": (0, 1)}, name="mnist")
    page = Page(tmp_path, invented.sweep(), other)
    views = re.findall(r"<option[^>]*>(.*?)</option>", page.text)
    assert {"test accuracy, digits", "test accuracy, mnist", "FLOPs, digits", "FLOPs, mnist"} <= set(views)
    digits, mnist = (page.charts["swept"][i]["figures"] for i in (0, views.index("test accuracy, mnist")))
    assert [figure["heading"] for figure in digits] == ["Against temperature", "Against alpha"]
    assert [figure["heading"] for figure in mnist] == ["Against temperature"]
    assert mnist[0]["layout"]["xaxis"]["ticktext"] == ["2", "8"]
    assert len(page.charts["map"]) == 5, "of digits alone"


def test_what_changes_along_an_axis_is_a_line_and_what_changes_otherwise_is_none(tmp_path):
    record = invented.sweep({"student": ("mlp", "wrn_16_2"), "temperature": (1, 4)})
    for job in record.results:
        job.networks["scratch"] = invented.network("scratch", job.swept["student"])
    page = Page(tmp_path, record)
    headings = [figure["heading"] for figure in page.charts["swept"][0]["figures"]]
    assert headings == ["Against temperature", "Against student"]
    assert len(page.trace("swept", "baseline", figure=1)["x"]) == 2
    along_temperature = page.charts["swept"][0]["figures"][0]["data"]
    assert not [trace for trace in along_temperature if trace.get("name", "").startswith("baseline")]


def test_of_a_search_it_is_told_where_the_best_lie(tmp_path):
    record = invented.trials(40)
    for job in record.results:
        val = 0.99 - abs(math.log2(job.swept["temperature"] / 4)) / 50
        job.student.val.accuracy = val
    page = Page(tmp_path, record)
    tried = [job.swept["temperature"] for job in record.results]
    best = sorted(sorted(tried, key=lambda t: abs(math.log2(t / 4)))[:4])
    says = page.charts["swept"][0]["says"].replace("\u00a0", " ")
    assert (
        f"between {best[0]:.4g} and {best[-1]:.4g}; the search tried {min(tried):.4g} to {max(tried):.4g}"
        in says
    )
    ticks = page.charts["swept"][0]["figures"][0]["layout"]["xaxis"]["ticktext"]
    assert ticks == ["1", "2", "4", "8", "16", "32", "64"]


def test_of_many_classes_only_the_names_are_told(tmp_path):
    page = Page(tmp_path, invented.sweep({"seed": (0,)}, classes=[f"class {i}" for i in range(101)]))
    view = page.charts["confusion"][0]
    assert view["figures"] == [] and view["says"].startswith("They differ most on class")


def test_names_are_text_wherever_they_stand(tmp_path):
    page, harmless = (
        Page(tmp_path, nasty()),
        Page(tmp_path, invented.sweep({"student": ("a", "b"), "seed": (0, 1)})),
    )
    for pattern in (r"<script\b", r"</script"):
        assert len(re.findall(pattern, page.html)) == len(re.findall(pattern, harmless.html))
    assert not re.search(r"<(b|img)\b(?!>job)", page.text)
    assert "&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;" in page.text and "{{ 7 }}" in page.text
    ticks = page.charts["confusion"][0]["figures"][0]["layout"]["xaxis"]["ticktext"]
    assert ticks[1] == "&lt;b&gt;bold&lt;/b&gt;", "plotly would make it bold"


ODD = ("", " ", "a\nb", "a|b", "'", "--text", "caf\udce9", "\u202eleft", "x" * 300)


def test_odd_names_leave_the_tables_whole(tmp_path):
    record = invented.sweep({"student": ODD, "seed": (0, 1)}, roles=("teacher", "assistant1"), classes=ODD)
    page = Page(tmp_path, record)
    head, *rows = page.table("Leaderboard")
    assert len(rows) == len(ODD) and {len(row) for row in rows} == {len(head)}
    shown = {name.replace("\udce9", "\\udce9") for name in ODD}  # of a file's name that is not UTF-8
    assert {row[head.index("student")] for row in rows} == shown
    head, *rows = page.table("Links of the chains")
    assert {len(row) for row in rows} == {len(head)}


def test_the_positive_class_is_text_in_charts(tmp_path):
    record = invented.sweep({"temperature": (1, 4)}, classes=("<b>bold</b>", "other"))
    for job in record.results:
        job.student.test.positive_class, job.student.test.f1 = "<b>bold</b>", 0.9
    page = Page(tmp_path, record)
    figure = next(
        view["figures"][0]
        for view in page.charts["swept"]
        if "<b>" in view["says"] or "bold" in str(view["figures"][0]["layout"])
    )
    assert figure["layout"]["yaxis"]["title"]["text"] == "test F1 of &lt;b&gt;bold&lt;/b&gt;"
    assert "<b>" not in figure["data"][-1]["text"][0]


def test_the_page_asks_for_nothing(tmp_path):
    page = Page(tmp_path, invented.sweep())
    own = re.sub(r"<script>.*?</script>", "", page.html, flags=re.S)
    assert not re.search(r"""(src|href|action)=["']?(?!["']?(#|data:))|url\(|@import|https?:""", own)
    assert "default-src 'none'" in own


@pytest.mark.parametrize("kind", ["grid", "search"])
def test_the_page_of_200_jobs_is_small_and_made_soon(tmp_path, kind):
    if kind == "grid":
        axes = {
            "temperature": tuple(2**i for i in range(10)),
            "alpha": (0, 0.1, 0.2, 0.5, 1),
            "seed": (0, 1, 2, 3),
        }
        record = invented.sweep(axes, epochs=200, classes=[f"class {i}" for i in range(100)])
    else:
        record = invented.trials(200)
    start = time.perf_counter()
    page = Page(tmp_path, record)
    assert time.perf_counter() - start < 20
    assert page.file.stat().st_size < 15e6
    assert len(page.table("Leaderboard")) == (51 if kind == "grid" else 201)
    assert len(page.charts["curves"]) == 12, "of the best alone"
