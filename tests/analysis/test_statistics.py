"""Intervals, tests and corrections against hand-made cases, the textbook's formulas and simulations."""

from math import comb, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from kdsweep.analysis.statistics import (
    Interval,
    crossed,
    holm,
    interval,
    largest_of,
    mcnemar,
    on_own_images,
    resampled,
)

accuracies = st.integers(0, 10_000).map(lambda right: right / 10_000)


def test_an_interval_by_hand():
    found = interval([0.97, 0.98, 0.99])
    assert found.n == 3
    assert found.mean == pytest.approx(0.98)
    assert found.deviation == pytest.approx(0.01)
    # 4.302653 is the 97.5 % point of t with 2 degrees of freedom, from any table
    assert found.half == pytest.approx(4.302653 * 0.01 / sqrt(3), rel=1e-6)
    assert (found.low, found.high) == pytest.approx((0.98 - found.half, 0.98 + found.half))
    assert interval([0.97, 0.98, 0.99], 0.9).half == pytest.approx(2.919986 * 0.01 / sqrt(3), rel=1e-6)


def test_one_value_has_no_interval_and_none_is_an_error():
    assert interval([0.5]) == Interval(1, 0.5, None, None)
    assert interval([0.5]).low is None and not interval([0.5]).without_zero
    with pytest.raises(ValueError, match="no values"):
        interval([])


def test_equal_values_have_an_interval_of_no_width():
    assert interval([0.1 + 0.2, 0.3, 0.3]) == Interval(3, pytest.approx(0.3), 0.0, 0.0, 0.0)
    assert interval([0.0, 0.0]) == Interval(2, 0.0, 0.0, 0.0, 0.0)


@given(st.lists(accuracies, min_size=2, max_size=12))
def test_an_interval_is_the_textbooks(values):
    found = interval(values)
    array = np.array(values, np.float64)
    half = stats.t.ppf(0.975, len(values) - 1) * array.std(ddof=1) / np.sqrt(len(values))
    assert found.mean == pytest.approx(array.mean(), abs=1e-12)
    assert found.half == pytest.approx(half, abs=1e-9)
    assert found.low <= found.mean <= found.high


def two_way(table: np.ndarray) -> dict[str, float]:
    """The mean squares of a table without repetition, cell by cell, in float64."""
    rows, columns = table.shape
    grand = sum(table[i][j] for i in range(rows) for j in range(columns)) / (rows * columns)
    row = [sum(table[i][j] for j in range(columns)) / columns for i in range(rows)]
    column = [sum(table[i][j] for i in range(rows)) / rows for j in range(columns)]
    rest = sum((table[i][j] - row[i] - column[j] + grand) ** 2 for i in range(rows) for j in range(columns))
    return {
        "mean": grand,
        "seeds": sum((each - grand) ** 2 for each in row) / (rows - 1) / rows,
        "images": sum((each - grand) ** 2 for each in column) / (columns - 1) / columns,
        "both": rest / ((rows - 1) * (columns - 1)) / (rows * columns),
    }


@given(
    st.integers(2, 6).flatmap(
        lambda seeds: st.integers(2, 12).flatmap(
            lambda images: arrays(np.int8, (seeds, images), elements=st.integers(-1, 1))
        )
    )
)
def test_seeds_and_images_are_crossed(table):
    found, wanted = crossed(table), two_way(table.astype(float))
    for name, value in wanted.items():
        assert getattr(found, name) == pytest.approx(value, abs=1e-12), name
    seeds, images, both = (wanted[name] for name in ("seeds", "images", "both"))
    assert found.variance == pytest.approx(max(seeds + images - both, seeds, images), abs=1e-12)
    interval = found.interval()
    assert interval.half >= max(interval.over_seeds, interval.over_images) and interval.n == len(table)
    assert interval.over_seeds == pytest.approx(stats.t.ppf(0.975, len(table) - 1) * seeds**0.5, abs=1e-9)
    assert interval.over_images == pytest.approx(
        stats.t.ppf(0.975, table.shape[1] - 1) * images**0.5, abs=1e-9
    )
    if found.variance:
        freedom = len(table) - 1
        if len(table) > 2:
            freedom = found.variance**2 / (seeds**2 / (len(table) - 1) + images**2 / (table.shape[1] - 1))
        parts = [(found.variance, freedom), (seeds, len(table) - 1), (images, table.shape[1] - 1)]
        tests = [2 * stats.t.sf(abs(found.mean) / v**0.5, df) for v, df in parts if v > 1e-12]
        assert found.p() == pytest.approx(max(tests), abs=1e-9), "as strict as seeds or images alone"
        assert (found.p() < 0.05) == interval.without_zero or found.p() == pytest.approx(0.05)
        assert found.p_among_many() >= found.p() - 1e-12


def test_what_is_the_same_everywhere_is_known_only_as_well_as_its_images():
    """All seeds differ by the same: a t test over seeds would divide by zero, the images still judge."""
    table = np.zeros((3, 100), np.int8)
    table[:, :2] = 1
    found = crossed(table)
    assert found.seeds == 0 and found.mean == 0.02 and 0.1 < found.p() < 0.2
    nothing = crossed(np.zeros((3, 100), np.int8))
    assert (nothing.p(), nothing.interval().half) == (1.0, 0.0)


def test_one_seed_has_no_test_but_its_images():
    found = crossed(np.array([[1, 0, 0, 0, -1, 1, 1, 0]]))
    assert (found.variance, found.p(), found.p_among_many()) == (None, None, None)
    assert found.interval().half is None and found.interval().over_images > 0


def test_seeds_with_images_of_their_own_count_as_one_set_of_images():
    tables = [np.array([1, 1, 0, 0]), np.array([1, 0, 0, 0, 0])]
    found = on_own_images([0.5, 0.2], tables)
    assert found.seeds == pytest.approx(0.045 / 2)
    images = (tables[0].var(ddof=1) / 4 + tables[1].var(ddof=1) / 5) / 2
    assert found.images == pytest.approx(images)
    assert found.variance == pytest.approx(max(found.seeds, images))


def test_a_bootstrap_of_accuracies_is_the_table():
    """Of a figure that is a mean over images, resampling tells what the two-way table does."""
    random = np.random.default_rng(0)
    table = (random.random((4, 300)) < random.choice([0.6, 0.99], 300)).astype(float)
    drawn = random.integers(0, 300, (4000, 300))
    replicates = np.stack([row[drawn].mean(axis=1) for row in table])
    found, wanted = resampled(table.mean(axis=1).tolist(), replicates, 300), crossed(table)
    for name in ("mean", "seeds", "images"):
        assert getattr(found, name) == pytest.approx(getattr(wanted, name), rel=0.08), name
    assert found.interval().half == pytest.approx(wanted.interval().half, rel=0.08)


def test_the_best_of_several_equals_asks_for_more():
    """Against a Monte Carlo: the first of 18 equal ones by validation, which goes with the test."""
    found = crossed(np.random.default_rng(1).integers(-1, 2, (5, 40)))
    random, pull, freedom = np.random.default_rng(0), 0.6, found.freedom
    chosen = pull * random.standard_normal((400_000, 18)).max(axis=1)
    chosen += (1 - pull**2) ** 0.5 * random.standard_normal(400_000)
    t = chosen / np.sqrt(random.chisquare(freedom, 400_000) / freedom)
    shown = abs(found.mean) / found.variance**0.5
    assert found.p(pull, 18) == pytest.approx((abs(t) >= shown).mean(), abs=0.004)
    assert found.p(pull, 18) > found.p() == found.p(0, 18) == found.p(pull, 1)
    assert largest_of(18) == pytest.approx(random.standard_normal((100_000, 18)).max(axis=1).mean(), abs=0.01)
    assert largest_of(1) == pytest.approx(0, abs=1e-9)


def test_intervals_hold_what_they_promise():
    """Of 2000 sweeps of three seeds, 95 % have the true mean in their interval."""
    random = np.random.default_rng(0)
    samples = 0.9 + 0.01 * random.standard_normal((2000, 3))
    found = [interval(list(ours)) for ours in samples]
    assert 0.935 < np.mean([each.low < 0.9 < each.high for each in found]) < 0.965


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize(("of_seeds", "of_images"), [(0.02, 0.1), (0.1, 0.6), (0.1, 0.1), (0.0, 0.5)])
def test_crossed_intervals_hold_for_other_seeds_and_images(seeds, of_seeds, of_images):
    random, images = np.random.default_rng(0), 60
    inside, strict = 0, 0
    for _ in range(800):
        table = of_seeds * random.standard_normal((seeds, 1)) + of_images * random.standard_normal(images)
        found = crossed(table + 0.3 * random.standard_normal((seeds, images)))
        inside += found.p() >= 0.05
        strict += found.p_among_many() < 0.005
    assert inside / 800 > 0.92
    assert strict / 800 < 0.012, "far out too"


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_the_binomial_test(ours, theirs):
    wanted = stats.binomtest(ours, ours + theirs).pvalue if ours + theirs else 1.0
    assert mcnemar(ours, theirs) == pytest.approx(wanted)
    assert mcnemar(11, 3) == pytest.approx(2 * sum(comb(14, k) for k in range(4)) / 2**14)


def test_holm_by_hand():
    # Holm (1979): 4 × 0.005, then 3 × 0.01, 2 × 0.03, 1 × 0.04, none below the one before
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9, 0.4]) == [1.0, 1.0, 1.0]
    assert holm([0.02]) == [0.02] and holm([]) == []
    assert holm([0.01, 0.01]) == [0.02, 0.02]


@given(st.lists(st.floats(0, 1), max_size=10))
def test_holm_lies_between_none_and_bonferroni(p_values):
    adjusted, count = holm(p_values), len(p_values)
    for p, corrected in zip(p_values, adjusted, strict=True):
        assert p <= corrected <= min(1.0, count * p)
    order = sorted(range(count), key=p_values.__getitem__)
    assert [adjusted[i] for i in order] == sorted(adjusted)
    if p_values:
        assert min(adjusted) == min(1.0, count * min(p_values)), "the smallest as Bonferroni's"
    # rejecting step by step, as the paper tells it
    rejected: set[int] = set()
    for step, i in enumerate(order):
        if p_values[i] * (count - step) >= 0.05:
            break
        rejected.add(i)
    assert {i for i in range(count) if adjusted[i] < 0.05} == rejected
