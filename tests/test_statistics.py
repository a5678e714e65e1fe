"""Intervals, paired differences and Holm's correction against hand-made cases and the textbook's formulas."""

from math import sqrt
from statistics import mean, stdev

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from kdsweep.report.statistics import Interval, holm, interval, paired

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
    assert interval([0.1 + 0.2, 0.3, 0.3]) == Interval(3, pytest.approx(0.3), 0.0, 0.0)
    assert interval([0.0, 0.0]) == Interval(2, 0.0, 0.0, 0.0)


@given(st.lists(accuracies, min_size=2, max_size=12))
def test_an_interval_is_the_textbooks(values):
    found = interval(values)
    array = np.array(values, np.float64)
    half = stats.t.ppf(0.975, len(values) - 1) * array.std(ddof=1) / np.sqrt(len(values))
    assert found.mean == pytest.approx(array.mean(), abs=1e-12)
    assert found.half == pytest.approx(half, abs=1e-9)
    assert found.low <= found.mean <= found.high


def test_seeds_are_paired_by_what_they_are_not_by_their_order():
    found = paired({2: 0.93, 0: 0.91, 7: 0.5}, {0: 0.90, 1: 0.1, 2: 0.90})
    assert found.seeds == (0, 2)
    assert found.difference.mean == pytest.approx(0.02)
    # two differences, 0.01 and 0.03: t = 2 with 1 degree of freedom, whose distribution is Cauchy's
    assert found.p == pytest.approx(1 - 2 * np.arctan(2) / np.pi)
    assert not found.difference.without_zero


@given(
    st.dictionaries(st.integers(0, 5), accuracies, min_size=1), st.dictionaries(st.integers(0, 5), accuracies)
)
def test_a_pair_is_the_textbooks(a, b):
    found, both = paired(a, b), sorted(a.keys() & b.keys())
    if not both:
        assert found is None
        return
    differences = [a[seed] - b[seed] for seed in both]
    assert found.difference.mean == pytest.approx(mean(differences), abs=1e-9)
    if len(both) == 1 or stdev(differences) < 1e-10:
        assert found.p is None
        return
    t = mean(differences) / (stdev(differences) / sqrt(len(both)))
    assert found.p == pytest.approx(2 * stats.t.sf(abs(t), len(both) - 1), abs=1e-9)
    assert found.difference.without_zero == (found.p < 0.05) or found.p == pytest.approx(0.05)


@pytest.mark.parametrize("above", [0.0, 0.1, -0.3])
def test_the_same_difference_in_all_seeds_claims_nothing(above):
    b = {0: 0.3, 1: 0.55, 2: 0.61}
    found = paired({seed: value + above for seed, value in b.items()}, b)
    assert found.difference == Interval(3, pytest.approx(above), 0.0, 0.0)
    assert found.p is None, "the t test is undefined"
    assert paired({0: 0.5 + above}, {0: 0.5}).p is None


def test_intervals_hold_what_they_promise():
    """Of 2000 sweeps of three seeds, 95 % have the true mean in their interval, and 5 % a p below 0.05."""
    random = np.random.default_rng(0)
    samples = 0.9 + 0.01 * random.standard_normal((2000, 2, 3))
    found = [interval(list(ours)) for ours, _ in samples]
    assert 0.935 < np.mean([each.low < 0.9 < each.high for each in found]) < 0.965
    pairs = [paired(dict(enumerate(ours)), dict(enumerate(theirs))) for ours, theirs in samples]
    assert 0.035 < np.mean([pair.p < 0.05 for pair in pairs]) < 0.065
    assert all(pair.difference.without_zero == (pair.p < 0.05) for pair in pairs)


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
