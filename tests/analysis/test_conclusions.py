"""What a report says of results made by hand: recipes, leaderboard, and sentences that claim no more."""

import pytest
from handmade import IMAGES, network
from invented import OPTIONS, unvalidated
from scipy import stats

from kdsweep.analysis.combine import together
from kdsweep.analysis.conclusions import answer
from kdsweep.analysis.leaderboard import Row, best_job, best_jobs, leaderboard
from kdsweep.analysis.recipes import recipes
from kdsweep.report.note import note
from kdsweep.results.network import Cost, Selection
from kdsweep.results.record import Record
from kdsweep.results.result import INTERRUPTED, PRUNED, JobResult, SweepInfo


def job(number: int, swept: dict, student: float, val: float = 0.5, **others: float | None) -> JobResult:
    """A finished job; `scratch` and `teacher` are test accuracies, None for no such network."""
    seed = swept.get("seed", 0)
    made = {"dataset": "digits", "student": "mlp", "method": "kd", "teacher": "mnist_cnn"}
    roles = {"teacher": 0.9, "scratch": 0.8} | others
    networks = {
        role: network(f"{role} {seed}", test, name=made.get(role, "mlp"))
        for role, test in roles.items()
        if test is not None
    }
    networks["student"] = network(f"student {number} {swept}", student, val)
    networks["student"].cost = Cost(500, 0.25e6, 2000, 0.1)
    chain = ["teacher", "student"] if "teacher" in networks else ["student"]
    recipe = made | {
        key: value for key, value in swept.items() if key in ("temperature", "dataset", "method")
    }
    if "teacher" not in networks:
        del recipe["teacher"]
    return JobResult(
        number, swept, seed, networks=networks, chain=chain, recipe=recipe, run_id=f"run{number}",
        seconds=1.0, dataset={"images": {"test": IMAGES}}, options=OPTIONS,
    )  # fmt: skip


def lost_job(number: int, swept: dict, error: str) -> JobResult:
    return JobResult(number, swept, options=OPTIONS, error=error)


def sweep_of(results: list[JobResult], keys: list[str], jobs: int | None = None, **config: object) -> Record:
    return Record(SweepInfo("parent", keys, len(results) if jobs is None else jobs, config=config), results)


def seeded(*by_temperature: tuple[float, list[float]], scratch: list[float], **others: float) -> Record:
    """A sweep over temperature and seed: (validation, test accuracies by seed) of T=1, 2, …"""
    results = [
        job(10 * i + seed, {"temperature": i, "seed": seed}, test, val, scratch=scratch[seed], **others)
        for i, (val, tests) in enumerate(by_temperature, start=1)
        for seed, test in enumerate(tests)
    ]
    return sweep_of(results, ["temperature", "seed"])


def told(record: Record) -> str:
    return " ".join(answer(record, leaderboard(record)))


def rows(record: Record) -> dict[str, Row]:
    return {row.label: row for row in leaderboard(record)}


SCRATCH = [0.80, 0.81, 0.79]


def test_a_baseline_that_some_jobs_lack_is_taken_from_those_that_have_it():
    values = [(baseline, t) for baseline in (False, True) for t in (1, 4)]
    jobs = [
        job(i, {"baseline": has, "temperature": t}, 0.85, scratch=0.8 if has else None)
        for i, (has, t) in enumerate(values)
    ]
    for each in jobs:  # a student is the same with a baseline beside it or not
        each.student.key = f"student {each.swept['temperature']}"
    keys = ["baseline", "temperature"]
    assert "5.00 points above the baseline" in told(sweep_of(jobs, keys))
    apart = together([sweep_of(jobs[:2], keys, baseline=False), sweep_of(jobs[2:], keys, baseline=True)])
    assert "5.00 points above the baseline" in told(apart)


def test_where_only_other_recipes_have_a_baseline_it_is_said():
    jobs = [job(0, {"temperature": 1}, 0.8), job(1, {"temperature": 4}, 0.8, val=0.6, scratch=None)]
    assert "It has no baseline, so this sweep cannot show whether distillation helps." in told(
        sweep_of(jobs, ["temperature"])
    )


def test_equal_figures_of_all_seeds_are_known_as_well_as_their_images():
    record = seeded((0.6, [0.85, 0.85, 0.85]), scratch=SCRATCH)
    half = 100 * 1.96020 * (0.85 * 0.15 / (IMAGES - 1)) ** 0.5
    assert told(record).startswith(f"The recipe T=1 reaches 85.00 ± {half:.2f} % on the test split over 3 ")


def test_a_search_is_not_told_to_sweep_the_seed():
    search = sweep_of(
        [job(0, {"temperature": 1, "seed": 2}, 0.8)], ["temperature", "seed"], search={"n_trials": 1}
    )
    assert "; run it again with seed=range(3), outside the search." in told(search)


def test_the_best_is_by_validation_and_a_clear_gain_is_claimed():
    record = seeded((0.6, [0.90, 0.91, 0.92]), (0.7, [0.850, 0.862, 0.839]), scratch=SCRATCH)
    found = rows(record)
    assert list(found) == ["T=2", "T=1"], "by validation, whatever the test split says"
    # by hand: differences 0.050, 0.052, 0.049; mean 0.050333, deviation 0.0015275, t(2) = 4.302653
    gain = found["T=2"].versus_alone
    assert gain.seeds == (0, 1, 2) and gain.interval.mean == pytest.approx(0.050333, abs=1e-6)
    assert gain.interval.over_seeds == pytest.approx(4.302653 * 0.0015275 / 3**0.5, rel=1e-4)
    assert gain.claimed and gain.primary
    assert found["T=2"].versus_best is None and found["T=1"].versus_best.interval.mean > 0
    sentences = answer(record, leaderboard(record))
    assert sentences[0] == (
        "The best of 2 recipes by validation, T=2, reaches 85.03 ± 2.86 % on the test split over 3 seeds: "
        "5.03 points above the baseline (95 % interval 4.63 to 5.44: ± 0.38 over seeds, ± 0.38 over "
        "test images)."
    )
    assert sentences[1].endswith("with 8.0 times fewer FLOPs and 2.0 times fewer parameters.")


def test_the_teacher_is_measured_not_judged():
    record = seeded((0.6, [0.850, 0.852, 0.851]), scratch=SCRATCH, teacher=0.9)
    assert (
        "Its difference from the teacher is −4.90 points (95 % interval −5.34 to −4.46: ± 0.25 over"
        in told(record)
    )
    row = rows(record)["T=1"]
    assert row.versus_teacher.p is None and not row.versus_teacher.claimed


def test_an_interval_with_zero_in_it_is_a_tie():
    record = seeded((0.6, [0.82, 0.80, 0.80]), scratch=SCRATCH)
    assert not rows(record)["T=1"].versus_alone.claimed
    assert "not distinguishable from the baseline (+0.67 points, 95 % interval −" in told(record)
    assert "above the student" not in told(record)


def test_the_chosen_recipe_does_not_pay_for_the_others():
    """What validation chose is one comparison, however many recipes there are; the others share theirs."""
    close = [0.800 + 0.010, 0.810 + 0.016, 0.790 + 0.013]
    alone = seeded((0.9, close), scratch=SCRATCH)
    others = [(0.5 - i / 100, [0.80 + i / 1000, 0.79, 0.80]) for i in range(9)]
    among = seeded((0.9, close), *others, scratch=SCRATCH)
    one, chosen = (rows(record)["T=1"].versus_alone for record in (alone, among))
    assert one.claimed and chosen.claimed and chosen.primary and chosen.p == pytest.approx(one.p)
    assert (one.among, chosen.among) == (1, 10)
    others = [rows(among)[f"T={t}"].versus_alone for t in range(2, 11)]
    assert {each.among for each in others} == {18} and not any(each.primary for each in others)


def test_of_a_lucky_choice_more_is_asked():
    """Where validation and test go up and down together, the best of several is bound to look good."""
    lucky = [[0.0, 0.012, 0.004], [0.010, 0.0, 0.006], [0.004, 0.002, 0.0], [0.001, 0.009, 0.008]]
    results = [
        job(len(lucky) * i + seed, {"temperature": i, "seed": seed}, 0.81 + luck, 0.6 + luck + i / 1e5,
            scratch=SCRATCH[seed])
        for i, by_seed in enumerate(lucky)
        for seed, luck in enumerate(by_seed)
    ]  # fmt: skip
    record = sweep_of(results, ["temperature", "seed"])
    best = leaderboard(record)[0]
    assert best.luck > 0.001 and "lucky seeds; confirm=5 trains it again with fresh seeds." in told(record)
    plain = best.versus_alone.interval
    assert best.versus_alone.p > stats.ttest_1samp([0.02, 0.01, 0.03], 0).pvalue / 10
    for each in record.results:  # the same test accuracies, of which validation says nothing
        each.student.val.accuracy = 0.6 + (each.swept["temperature"] == best.values["temperature"])
    blind = leaderboard(record)[0]
    assert blind.versus_alone.interval == plain and blind.luck == 0
    assert blind.versus_alone.p < best.versus_alone.p


def test_what_is_claimed_beside_the_first_depends_on_it():
    """The rest has a fiftieth of the level where the first comparison fails."""
    clear, level = [0.70, 0.712, 0.689], [0.800, 0.813, 0.789]
    record = seeded((0.9, level), (0.5, clear), scratch=SCRATCH)
    first, other = rows(record)["T=1"].versus_alone, rows(record)["T=2"].versus_alone
    assert not first.claimed
    gain = seeded((0.9, [0.90, 0.912, 0.889]), (0.5, clear), scratch=SCRATCH)
    assert rows(gain)["T=1"].versus_alone.claimed
    assert other.p == pytest.approx(50 * rows(gain)["T=2"].versus_alone.p)


def test_without_its_images_no_difference_is_claimed():
    record = seeded((0.6, [0.90, 0.912, 0.889]), scratch=SCRATCH)
    for each in record.results:
        for made in each.networks.values():
            made.test.right = None
    assert not rows(record)["T=1"].versus_alone.claimed
    assert "not distinguishable from the baseline (+10.03 points, 95 % interval" in told(record)
    assert "over seeds only: the results do not say which test images were right)" in told(record)


def test_the_same_gain_in_all_seeds_is_judged_by_its_images():
    record = seeded((0.6, [0.82, 0.83, 0.81]), scratch=SCRATCH)
    row = rows(record)["T=1"]
    assert row.versus_alone.interval.over_seeds == 0 and row.versus_alone.claimed
    assert "2.00 points above the baseline (95 % interval 1.80 to 2.20: ± 0.00 over seeds" in told(record)
    assert "a larger test split would narrow it, more seeds would not." in told(record)
    same = seeded((0.6, SCRATCH), scratch=SCRATCH)
    assert "level with the baseline" not in told(same) and not rows(same)["T=1"].versus_alone.claimed


def test_fresh_seeds_are_reported_apart():
    record = seeded((0.6, [0.85, 0.86, 0.87]), scratch=SCRATCH)
    fresh = [job(10 + i, {"temperature": 1, "seed": 3 + i}, 0.9 + i / 100, scratch=0.8) for i in range(2)]
    for each in fresh:
        each.confirms = True
    whole = sweep_of([*record.results, *fresh], ["temperature", "seed"], jobs=3)
    assert rows(whole)["T=1"].seeds == (0, 1, 2), "they choose nothing and are in no row"
    assert "With 2 fresh seeds, which had no part in the choice, T=1 reaches 90.50 ± " in told(whole)
    assert "without a result" not in told(whole)
    both = together([whole, part([4], range(2), "b")])
    assert "With 2 fresh seeds" in told(both)


def test_one_seed_says_nothing_of_chance():
    record = sweep_of([job(i, {"temperature": t}, 0.8 + t / 100, val=t / 10) for i, t in enumerate((1, 4))],
                      ["temperature"])  # fmt: skip
    sentences = answer(record, leaderboard(record))
    assert sentences[0].startswith("The best of 2 recipes by validation, T=4, reaches 84.00 % on the test")
    assert "over one seed (± 0.72 over test images): 4.00 points above the baseline" in sentences[0]
    assert (
        "(of the 400 test images that only one of these two networks gets right, it gets 400: p = "
        in sentences[0]
    )
    assert sentences[-1].startswith("One seed cannot show whether a difference is chance")
    assert "interval" not in told(record)
    assert all(row.versus_alone.p is None for row in leaderboard(record))


def test_one_seed_of_several_is_no_reason_to_ask_for_more():
    lost = [lost_job(i, {"temperature": 1, "seed": i}, "out of memory") for i in (1, 2)]
    finished = [job(0, {"temperature": 1, "seed": 0}, 0.85)]
    record = sweep_of([*finished, *lost], ["temperature", "seed"])
    assert "whether a difference is chance; only one of its 3 seeds finished." in told(record)
    others = [job(3 + i, {"temperature": 4, "seed": i}, 0.85, val=0.4) for i in range(3)]
    killed = sweep_of([*finished, *others], ["temperature", "seed"], jobs=6)
    assert "; only one of its 3 seeds finished." in told(killed), "what did not run is not among the results"
    assert "; only one of its seeds finished." in told(sweep_of(finished, ["temperature", "seed"], jobs=6))
    assert "; run it again with seed=range(3)." in told(sweep_of(finished, ["temperature"]))
    assert "; run it again with seed=range(3)." in told(
        sweep_of([*finished, *others], ["temperature", "seed"])
    )


def test_how_the_best_stands_among_the_others():
    best, close, below = [0.900, 0.910, 0.905], [0.901, 0.908, 0.906], [0.800, 0.811, 0.804]
    record = seeded((0.9, best), (0.8, close), (0.7, below), scratch=SCRATCH)
    assert "T=2 is not distinguishable from it." in told(record)
    assert "Every other recipe is below it" in told(seeded((0.9, best), (0.7, below), scratch=SCRATCH))
    assert "No other recipe is distinguishable" in told(seeded((0.9, best), (0.7, close), scratch=SCRATCH))
    turned = told(seeded((0.7, best), (0.9, below), scratch=SCRATCH))
    assert "T=1 is above it on the test split, which has no part in the choice." in turned
    many = seeded((0.9, best), (0.1, below), *[(0.8 - i / 100, close) for i in range(5)], scratch=SCRATCH)
    assert "T=3; T=4; T=5; and 2 more are not distinguishable from it." in told(many)


def test_missing_runs_leave_the_seeds_that_there_are():
    record = seeded((0.6, [0.85, 0.86, 0.87]), (0.7, [0.85, 0.862, 0.839]), scratch=SCRATCH)
    kept = [result for result in record.results if result.swept != {"temperature": 1, "seed": 1}]
    record = sweep_of(kept, ["temperature", "seed"], jobs=6)
    found = rows(record)
    assert found["T=1"].seeds == (0, 2) and found["T=1"].versus_best.seeds == (0, 2)
    assert found["T=1"].test.mean == pytest.approx(0.86)
    assert "1 of 6 jobs was without a result" in told(record)
    search = sweep_of(kept, ["temperature", "seed"], jobs=6, search={"n_trials": 6})
    assert "without a result" not in told(search), "of a search that goes on, the rest ran before"


def test_failed_jobs_are_counted_and_named():
    fine = [job(0, {"temperature": 1, "seed": 0}, 0.85), job(1, {"temperature": 1, "seed": 1}, 0.86)]
    lost = [
        JobResult(
            2,
            {"temperature": 1, "seed": 2},
            options=OPTIONS,
            error="the loss is no longer finite\nat epoch 3",
        ),
        lost_job(3, {"temperature": 8, "seed": 0}, INTERRUPTED),
        lost_job(4, {"temperature": 8, "seed": 1}, PRUNED),
        lost_job(5, {"temperature": 8, "seed": 2}, PRUNED),
    ]
    record = sweep_of([*fine, *lost], ["temperature", "seed"])
    (row,) = leaderboard(record)
    assert (row.seeds, row.failed) == ((0, 1), 1)
    text = told(record)
    assert "1 of 6 jobs failed: T=1 seed=2 (the loss is no longer finite)." in text
    assert "1 of 6 jobs was interrupted." in text and "2 of 6 jobs were pruned" in text
    assert "over 2 seeds" in text
    nothing = sweep_of(lost, ["temperature", "seed"])
    assert leaderboard(nothing) == []
    assert told(nothing).startswith("None of 4 jobs finished. 1 of 4 jobs failed: T=1 seed=2 (the loss")


def test_a_job_that_was_tried_again_counts_once():
    swept = {"temperature": 1}
    record = sweep_of([lost_job(0, swept, "out of memory"), job(1, swept, 0.85)], ["temperature"])
    (recipe,) = recipes(record)
    assert len(recipe.jobs) == 1 and not recipe.lost
    assert "failed" not in told(record)


def test_without_a_baseline_the_question_stays_open():
    record = sweep_of([job(0, {"temperature": 1}, 0.85, scratch=None)], ["temperature"])
    assert leaderboard(record)[0].versus_alone is None
    assert "No baseline was trained, so this sweep cannot show whether distillation helps." in told(record)


def methods(*made: tuple[str, list[float], float], **others: float | None) -> Record:
    """A sweep over method and seed without baselines: (method, test accuracies by seed, validation)."""
    results = []
    for name, tests, val in made:
        roles = {"teacher": None} if name == "scratch" else {}
        for seed, test in enumerate(tests):
            swept = {"method": name, "seed": seed}
            results.append(job(len(results), swept, test, val, **{"scratch": None, **roles, **others}))
    return sweep_of(results, ["method", "seed"])


def test_a_recipe_may_be_the_student_alone():
    record = methods(("scratch", [0.80, 0.81, 0.79], 0.5), ("takd", [0.850, 0.862, 0.839], 0.7))
    text = told(record)
    assert "cannot show whether distillation helps" not in text
    assert "The baseline, method=scratch, is 5.03 points below it (95 % interval −5.44 to" in text
    other = methods(("scratch", [0.80, 0.81, 0.79], 0.5), ("takd", [0.850, 0.862, 0.839], 0.7))
    for each in other.results[:3]:
        each.student.name = "cnn"
    assert "baseline" not in told(other), "of another student"
    assert "cannot show whether distillation helps" in told(
        methods(("kd", [0.8, 0.8, 0.8], 0.5), ("takd", [0.85, 0.862, 0.839], 0.7))
    )


def test_the_student_alone_may_be_the_best():
    record = methods(
        ("scratch", [0.80, 0.81, 0.79], 0.7), ("kd", [0.750, 0.762, 0.739], 0.6), ("takd", [0.7] * 3, 0.5)
    )
    text = told(record)
    assert "by validation, method=scratch, reaches 80.00" in text
    assert (
        "It is a baseline: no teacher took part. The best distilled recipe by validation, method=kd, is 4.97 "
        "points below it (95 % interval −5.37 to −4.56: ± 0.38 over seeds, ± 0.38 over test images)."
    ) in text
    one = methods(("scratch", [0.80], 0.7), ("kd", [0.75], 0.6))
    assert "method=kd, is 5.00 points below it in one seed (" in told(one)


def test_a_student_alone_has_neither_teacher_nor_baseline_and_one_recipe():
    """The temperature of what is not taught makes no difference, and no rows."""
    results = []
    for i, (method, t) in enumerate([("kd", 1), ("kd", 4), ("scratch", 1), ("scratch", 4)]):
        roles = {} if method == "kd" else {"teacher": None, "scratch": None}
        results.append(job(i, {"method": method, "temperature": t}, 0.8 + i / 100, val=0.9 - i / 10, **roles))
        if method == "scratch":
            results[-1].student.key = "scratch 0"
    found = rows(sweep_of(results, ["method", "temperature"]))
    assert list(found) == ["method=kd T=1", "method=kd T=4", "method=scratch"]
    alone = found["method=scratch"]
    assert (alone.versus_alone, alone.versus_teacher, alone.teacher_cost) == (None, None, {})
    only = sweep_of(results[2:], ["method", "temperature"])
    assert "stays open" not in told(only) and "teacher" not in told(only)


def test_baselines_are_those_of_the_same_job():
    results = [
        job(
            i,
            {"student": name, "seed": seed},
            0.85 + i / 1000,
            scratch=scratch + seed / 100,
            val=0.6 - i / 10,
        )
        for i, (name, scratch, seed) in enumerate(
            [("mlp", 0.80, 0), ("mlp", 0.80, 1), ("cnn", 0.84, 0), ("cnn", 0.84, 1)]
        )
    ]
    found = rows(sweep_of(results, ["student", "seed"]))
    assert found["student=mlp"].versus_alone.interval.mean == pytest.approx(0.0455)
    assert found["student=cnn"].versus_alone.interval.mean == pytest.approx(0.0075)


def test_data_sets_have_an_answer_each():
    results = [job(i, {"dataset": name}, accuracy, val=accuracy)
               for i, (name, accuracy) in enumerate([("digits", 0.9), ("mnist", 0.99)])]  # fmt: skip
    record = sweep_of(results, ["dataset"])
    assert [(row.dataset, row.rank) for row in leaderboard(record)] == [("digits", 1), ("mnist", 1)]
    assert [row.versus_best for row in leaderboard(record)] == [None, None]
    assert "On digits, the recipe dataset=digits reaches 90.00 %" in told(record)
    assert "On mnist, the recipe dataset=mnist reaches 99.00 %" in told(record)


def on_data(tested: dict[str, str], swept: str, seeds: int = 3, name: str = "digits") -> Record:
    """A sweep over `swept` (value to what it is tested on), temperature and seed; better from job to job."""
    results = []
    for value, fingerprint in tested.items():
        for t in (1, 4):
            for seed in range(seeds):
                i = len(results)
                made = job(
                    i, {swept: value, "temperature": t, "seed": seed}, 0.7 + i / 100, val=0.5 + i / 100
                )
                made.dataset |= {"name": name, "test_fingerprint": fingerprint}
                results.append(made)
    return sweep_of(results, [swept, "temperature", "seed"])


def test_other_test_images_of_one_name_are_another_data_set():
    record = on_data({"a": "x", "b": "y"}, "dataset.root")
    found = leaderboard(record)
    names = ["digits (dataset.root=a)", "digits (dataset.root=b)"]
    assert [(row.dataset, row.rank) for row in found] == [(name, rank) for name in names for rank in (1, 2)]
    for i in (0, 2):
        assert found[i].versus_best is None and found[i + 1].versus_best.interval.mean == pytest.approx(-0.03)
    assert "On digits (dataset.root=b), the best of 2 recipes by validation, dataset.root=b T" in told(record)
    same = on_data({"a": "x", "b": "x"}, "dataset.train_limit")
    assert {row.dataset for row in leaderboard(same)} == {"digits"}, "other training images are a recipe"


def test_a_limit_of_test_images_is_another_data_set_of_the_same_students():
    record = on_data({"50": "x", "100": "x"}, "dataset.test_limit", seeds=1)
    for i, each in enumerate(record.results):
        each.dataset["images"] = {"test": int(each.swept["dataset.test_limit"])}
        each.student.key = f"student {i % 2}"
    assert [(row.dataset, row.label) for row in leaderboard(record)] == [
        (f"digits (dataset.test_limit={n})", f"dataset.test_limit={n} T={t}")
        for n in (50, 100)
        for t in (4, 1)
    ]


def test_what_is_drawn_anew_for_each_seed_is_one_data_set():
    record = on_data({"a": "x"}, "student")
    for each in record.results:
        each.dataset["test_fingerprint"] = f"of seed {each.seed}"
    assert {row.dataset for row in leaderboard(record)} == {"digits"}
    record = sweep_of(record.results[2:], ["student", "temperature", "seed"])
    assert {row.dataset for row in leaderboard(record)} == {"digits"}, "one has the seed 2 alone"


def test_data_that_nothing_swept_sets_apart_are_numbered():
    record = on_data({"mlp": "x", "cnn": "y"}, "student")
    assert [row.dataset for row in leaderboard(record)] == ["digits (test images 1)"] * 2 + [
        "digits (test images 2)"
    ] * 2


def test_the_best_job_is_of_the_best_recipe():
    record = seeded((0.6, [0.85, 0.86, 0.87]), (0.65, [0.85, 0.86, 0.87]), scratch=SCRATCH)
    lucky, other, best = record.results[0], record.results[4], record.results[5]
    lucky.student.val.accuracy = 0.7
    for each, entropy in ((other, 0.4), (best, 0.3)):
        each.student.val = Selection(0.66, entropy)
    found = leaderboard(record)
    assert found[0].label == "T=2", "by the mean"
    assert best_job(found[0]).run_id == best.run_id


def test_equals_by_validation_are_ordered_by_its_cross_entropy():
    results = [job(i, {"temperature": t}, 0.8) for i, t in enumerate((1, 4))]
    results[1].student.val.cross_entropy = 0.5
    assert list(rows(sweep_of(results, ["temperature"]))) == ["T=4", "T=1"]


def test_only_seeds_are_one_recipe():
    record = sweep_of([job(i, {"seed": i}, 0.85 + i / 100) for i in range(3)], ["seed"])
    assert told(record).startswith("The recipe kd mlp reaches 86.00 ± 2.48 % on the test split over 3 seeds")


CONFIG = {"training": {"epochs": 2}, "seed": 0, "temperature": 1, "method": {"name": "kd"}}


def part(temperatures: list[int], seeds: range, run: str = "a", **config: object) -> Record:
    made = [
        job(i, {"temperature": t, "seed": seed}, 0.8 + t / 100 + seed / 1000, val=t / 10)
        for i, (t, seed) in enumerate((t, seed) for t in temperatures for seed in seeds)
    ]
    for each in made:
        each.student.key = f"{each.swept} {config}"
        each.config = CONFIG | config | {"temperature": each.swept["temperature"], "seed": each.seed}
    return Record(SweepInfo(run, ["temperature", "seed"], len(made), config=CONFIG | config), made)


def test_sweeps_together_are_one():
    both = together([part([1, 4], range(2)), part([4, 8], range(1, 3), "b")])
    assert both.sweep.keys == ["temperature", "seed"] and both.sweep.jobs == 8
    assert [result.number for result in both.results] == list(range(8))
    found = rows(both)
    assert {label: row.seeds for label, row in found.items()} == {
        "T=8": (1, 2), "T=4": (0, 1, 2), "T=1": (0, 1)
    }  # fmt: skip


def test_what_a_search_tells_of_earlier_commands_counts_once():
    def search(*numbers: int, earlier: list[str]) -> Record:
        results = [job(i, {"temperature": i + 1}, 0.8) for i in numbers]
        sweep = SweepInfo(f"sweep {numbers}", ["temperature"], 3, config={"search": {}}, earlier=earlier)
        return Record(sweep, results)

    first, second = search(0, 1, earlier=[]), search(0, 1, 2, earlier=["run0", "run1"])
    for records in ([first, second], [second, first]):
        assert [result.run_id for result in together(records).results].count("run0") == 1
    assert len(together([first, second]).results) == 3


def test_what_a_sweep_left_another_may_have_run():
    """A killed sweep and the same command again."""
    whole = part([1, 4], range(2), "b")
    left = whole.results[:2]

    def record(
        run: str, results: list[JobResult], spec: str = "temperature=1,4 seed=0,1", **config
    ) -> Record:
        return Record(SweepInfo(run, ["temperature", "seed"], 4, spec, config=CONFIG | config), results)

    assert "2 of 4 jobs were without a result" in told(record("a", left))
    assert "without a result" not in told(together([record("a", left), record("b", whole.results)]))
    both = together([record("a", whole.results[:2]), record("b", whole.results[1:3])])
    assert "1 of 5 jobs was without a result" in told(both), "one ran in neither"
    apart = together([record("a", left), record("b", whole.results, training={"epochs": 9})])
    assert "2 of 8 jobs were without a result" in told(apart)
    apart = together([record("a", left), record("b", whole.results, "temperature=1,16 seed=0,1")])
    assert "2 of 8 jobs were without a result" in told(apart)


def test_what_a_sweep_fixed_is_a_value_beside_one_that_swept_it():
    fixed = [job(i, {"seed": i}, 0.9) for i in range(2)]
    for each in fixed:
        each.recipe["temperature"], each.config = 16.0, CONFIG | {"temperature": 16.0}
    both = together([part([1, 4], range(2)), Record(SweepInfo("b", ["seed"], 2, config=CONFIG), fixed)])
    assert set(rows(both)) == {"T=1", "T=4", "T=16"}


def test_what_follows_a_swept_value_sets_no_sweeps_apart():
    """The teacher's epochs are those that were swept."""
    plain = part([1], range(2), teacher={"training": {"epochs": 2}})
    swept = [job(i, {"training.epochs": e, "seed": 2}, 0.9) for i, e in enumerate((7, 2))]
    for each in swept:
        each.recipe["temperature"] = 1.0
        recipe = {"training": {"epochs": each.swept["training.epochs"]}}
        each.config = CONFIG | recipe | {"teacher": recipe}
    config = swept[0].config
    both = together([plain, Record(SweepInfo("b", ["training.epochs", "seed"], 2, config=config), swept)])
    assert {label: row.seeds for label, row in rows(both).items()} == {
        "T=1 training.epochs=2": (0, 1, 2), "T=1 training.epochs=7": (2,)
    }  # fmt: skip


def test_sweeps_whose_configs_differ_are_not_pooled():
    longer = part([4, 8], range(2, 4), "b", training={"epochs": 9})
    both = together([part([1, 4], range(2)), longer])
    assert set(rows(both)) == {
        f"T={t} training.epochs={epochs}" for t, epochs in ((1, 2), (4, 2), (4, 9), (8, 9))
    }
    first = {"training": {"epochs": 2, "patience": 1}, "teacher": {"training": {"epochs": 2, "patience": 1}}}
    second = {"training": {"epochs": 2, "patience": 9}, "teacher": {"training": {"epochs": 5, "patience": 9}}}
    both = together([part([1], range(2), **first), part([1], range(2, 4), "b", **second)])
    assert set(rows(both)) == {
        f"T=1 training.patience={patience} teacher.training.epochs={epochs}"
        for patience, epochs in ((1, 2), (9, 5))
    }, "what follows another key is not told twice"
    told_by_name = [job(0, {"temperature": 1, "seed": 0}, 0.7)]
    told_by_name[0].recipe["method"] = "takd"
    apart = together([part([1], range(1)), Record(SweepInfo("b", ["temperature", "seed"], 1), told_by_name)])
    assert set(rows(apart)) == {"T=1 method=kd", "T=1 method=takd"}


def test_what_shapes_no_job_sets_no_sweeps_apart():
    """Where jobs run, what a sweep is asked beside, and how its method writes numbers."""
    one = part([1], range(2), store="a", hardware={"jobs": 1}, register=None, dataset={"root": "a"})
    other = part(
        [1], range(2, 4), "b", store="b", hardware={"jobs": 2}, register="best", dataset={"root": "b"}
    )
    for each in other.results:
        each.config = each.config | {"confirm": 3, "objective": "val/cross_entropy", "baseline": False}
        each.config["method"] = {"name": "kd", "options": {"temperature": {"sign": "T"}}}
    assert {label: row.seeds for label, row in rows(together([one, other])).items()} == {"T=1": (0, 1, 2, 3)}


def test_each_job_has_its_own_config():
    """One sweep tries two experiments, which the config of its first job does not tell."""
    both = [job(i, {"experiment": name, "seed": i % 2}, 0.9) for i, name in enumerate("xxyy")]
    for each in both:
        epochs = {"x": 2, "y": 9}[each.swept["experiment"]]
        each.recipe["temperature"], each.config = 1.0, CONFIG | {"training": {"epochs": epochs}}
    tried = Record(SweepInfo("a", ["experiment", "seed"], 4, config=both[0].config), both)
    beside = [job(i, {"seed": i}, 0.8) for i in range(2)]
    for each in beside:
        each.recipe["temperature"], each.config = 1.0, CONFIG | {"training": {"epochs": 9}}
        each.student.key = f"beside {each.seed}"
    plain = Record(SweepInfo("b", ["seed"], 2, config=beside[0].config), beside)
    assert set(rows(together([tried, plain]))) == {"experiment=x", "experiment=y", "kd mlp"}


def test_sweeps_whose_networks_differ_though_their_configs_do_not_are_told_apart_by_number():
    edited = part([1], range(2), "b")
    for each in edited.results:
        each.student.key = "of edited code"
    assert set(rows(together([part([1], range(2)), edited]))) == {"sweep=1 T=1", "sweep=2 T=1"}


def test_the_note_is_markdown_that_fits():
    record = seeded(*[(0.9 - i / 100, [0.85, 0.86, 0.87]) for i in range(30)], scratch=SCRATCH)
    text = note(record, leaderboard(record))
    lines = text.splitlines()
    assert lines[0].startswith("The best of 30 recipes") and "report.html" in lines[-1]
    table = [line for line in lines if line.startswith("|")]
    assert table[0] == "| recipe | seeds | val % | test % | vs baseline | vs teacher |"
    assert len(table) == 22 and "and 10 more" in text
    assert table[2] == "| T=1 | 3 | 90.00 | 86.00 ± 2.48 | +6.00 ± 4.30 * | −4.00 ± 2.48 |"
    assert len(text) < 8000
    long = [job(i, {"student.model._target_": f"a|b.{'x' * 700}{i}"}, 0.8) for i in range(30)]
    text = note(
        sweep_of(long, ["student.model._target_"]), leaderboard(sweep_of(long, ["student.model._target_"]))
    )
    assert len(text) <= 7800 and "report.html" in text and "a\\|b" in text


def test_rows_as_json_take_no_jobs_along():
    (row,) = leaderboard(seeded((0.6, [0.85, 0.86, 0.88]), scratch=SCRATCH))
    shown = row.as_dict()
    assert "recipe" not in shown and shown["label"] == "T=1"
    assert shown["versus_alone"]["claimed"] is row.versus_alone.claimed
    assert shown["test"]["mean"] == row.test.mean and shown["run_ids"] == ("run10", "run11", "run12")


# no image held back for validation

NONE = "No image was held back for validation, so nothing was selected: the weights of the last epoch are "


def over_methods(record: Record, *names: str) -> Record:
    """The sweep over methods instead of temperatures."""
    for each in record.results:
        each.swept = {"method": names[each.swept["temperature"] - 1], "seed": each.seed}
    return sweep_of(list(record.results), ["method", "seed"])


def test_without_validation_rows_keep_the_order_of_the_sweep_whatever_their_test_accuracy():
    tests = [(0.5, [0.83, 0.84, 0.82]), (0.6, [0.80, 0.81, 0.79]), (0.7, [0.86, 0.87, 0.85])]
    record = unvalidated(seeded(*tests, scratch=SCRATCH))
    found = leaderboard(record)
    assert [row.label for row in found] == ["T=1", "T=2", "T=3"]
    assert {(row.rank, row.val, row.versus_best, row.luck) for row in found} == {(None, None, None, None)}
    assert best_job(found[0]) is None and best_jobs(found) == {}
    said = answer(record, found)
    assert said[0] == f"{NONE}compared, and choosing a recipe by its test accuracy would flatter it."
    assert said[1].startswith("T=1 reaches 83.00 ± 2.48 % on the test split over 3 seeds: 3.00 points above")
    assert said[2].startswith("T=2 reaches 80.00") and said[3].startswith("T=3 reaches 86.00")
    assert "best " not in told(record) and "| recipe | seeds | test % |" in note(record, found)
    assert [row.as_dict()["val"] for row in found] == [None] * 3


def test_without_validation_all_comparisons_with_baseline_and_kd_share_their_level():
    tests = [(0.5, [0.83, 0.85, 0.82]), (0.6, [0.80, 0.82, 0.79]), (0.7, [0.86, 0.87, 0.87])]
    record = over_methods(unvalidated(seeded(*tests, scratch=SCRATCH)), "kd", "dkd", "crd")
    kd, dkd, crd = leaderboard(record)
    assert kd.versus_kd is None and dkd.versus_kd and crd.versus_kd
    compared = [row.versus_alone for row in (kd, dkd, crd)] + [dkd.versus_kd, crd.versus_kd]
    assert [(each.among, each.primary) for each in compared] == [(5, False)] * 5
    assert "dkd is not distinguishable from kd." in told(record) or "dkd: below kd" in told(record)
    ranked = leaderboard(over_methods(seeded(*tests, scratch=SCRATCH), "kd", "dkd", "crd"))
    assert [row.versus_kd for row in ranked] == [None] * 3, "there the best one is compared with"


def test_without_validation_a_recipe_without_teacher_is_the_baseline_of_those_that_have_none():
    jobs = [
        job(10 * i + seed, {"method": method, "seed": seed}, test + seed / 100, teacher=teacher, scratch=None)
        for i, (method, test, teacher) in enumerate((("scratch", 0.7, None), ("kd", 0.8, 0.9)))
        for seed in range(3)
    ]
    record = unvalidated(sweep_of(jobs, ["method", "seed"]))
    alone, kd = leaderboard(record)
    assert alone.versus_alone is None
    assert kd.versus_alone.interval.mean == pytest.approx(0.1) and kd.versus_alone.claimed
    assert "No baseline" not in told(record)
    assert "No baseline was trained" in told(sweep_of(record.results[3:], ["method", "seed"]))


def test_without_validation_many_recipes_are_counted():
    tests = [(0.5, [0.80 + each / 50 + seed / 100 for seed in range(3)]) for each in range(5)]
    record = unvalidated(seeded(*tests, scratch=[0.80, 0.81, 0.82]))
    assert "T=2; T=3; T=4; and 1 more: above the baseline, by more than chance." in told(record)
    assert "1 of 5 recipes are not distinguishable from the baseline." in told(record)


def test_without_validation_one_seed_shows_nothing_and_one_job_needs_no_choice():
    record = unvalidated(sweep_of([job(0, {}, 0.83)], []))
    assert answer(record, leaderboard(record))[0] == f"{NONE}tested."
    assert "run it again with seed=range(3)" in told(record)
    assert best_jobs(leaderboard(record)) == {"digits": record.results[0]}


def test_without_validation_epochs_may_be_chosen_by_the_training_loss():
    record = unvalidated(seeded((0.5, [0.83, 0.84]), scratch=SCRATCH))
    for each in record.results:
        each.student.training = {"keep": "best", "monitor": "train/loss"}
    assert "the weights of the epoch with the lowest training loss are tested" in told(record)


def test_recipes_without_validation_come_after_the_others_and_are_never_chosen():
    record = seeded((0.5, [0.83, 0.84, 0.82]), (0.6, [0.90, 0.91, 0.89]), scratch=SCRATCH)
    tests = enumerate([0.99, 0.99, 0.98])
    jobs = [job(90 + seed, {"temperature": 9, "seed": seed}, test, scratch=0.8) for seed, test in tests]
    more = unvalidated(sweep_of(jobs, ["temperature", "seed"]))
    both = sweep_of([*more.results, *record.results], ["temperature", "seed"])
    found = leaderboard(both)
    assert [(row.label, row.rank) for row in found] == [("T=2", 1), ("T=1", 2), ("T=9", None)]
    assert [row.versus_best is None for row in found] == [True, False, True]
    assert found[0].versus_alone.primary and best_jobs(found) == {"digits": best_job(found[0])}
    assert best_job(found[2]) is None
    said = told(both)
    assert "The best of 2 recipes by validation, T=2," in said
    assert "T=9: no image was held back for validation, so this was not ranked and never chosen" in said
