"""What a few seeds say and what they do not: t intervals, differences paired by seed, Holm's correction.

Pure functions on plain numbers. The sample is the seeds: an interval tells what other seeds would give on the
same data, test images included.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import fmean, stdev

CONFIDENCE = 0.95
SAME = 1e-9  # spread, relative to the values, below which it is rounding: an image counts a millionth or more


@dataclass(frozen=True)
class Interval:
    """A mean, and how well `n` values know it.

    `deviation` is that of the sample (n − 1), `half` the half width of the confidence interval: both None of
    one value, both 0 where all values are the same.
    """

    n: int
    mean: float
    deviation: float | None
    half: float | None

    @property
    def low(self) -> float | None:
        return None if self.half is None else self.mean - self.half

    @property
    def high(self) -> float | None:
        return None if self.half is None else self.mean + self.half

    @property
    def without_zero(self) -> bool:
        """Whether the interval is known and 0 is not in it."""
        return self.half is not None and abs(self.mean) > self.half


@dataclass(frozen=True)
class Paired:
    """The differences a − b of the `seeds` that both have, and whether chance explains them.

    `p` is two-sided, of the paired t test. It is None, the test being undefined, with one seed and where all
    differences are the same: a spread of zero says nothing of the spread that other seeds would have.
    """

    seeds: tuple[int, ...]
    difference: Interval
    p: float | None


def interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Mean, standard deviation and the t interval of the mean: mean ± t(n − 1) · deviation / √n.

    Student (1908), The probable error of a mean, Biometrika 6(1). Raises ValueError without values.
    """
    if not values:
        raise ValueError("no values")
    centre = fmean(values)
    if len(values) == 1:
        return Interval(1, centre, None, None)
    deviation = stdev(values)
    if deviation <= SAME * max(map(abs, values)):
        return Interval(len(values), centre, 0.0, 0.0)
    from scipy.stats import t

    quantile = float(t.ppf((1 + confidence) / 2, len(values) - 1))
    return Interval(len(values), centre, deviation, quantile * deviation / len(values) ** 0.5)


def paired(a: Mapping[int, float], b: Mapping[int, float], confidence: float = CONFIDENCE) -> Paired | None:
    """How much a is above b, by seed; None if there is no seed that both have.

    The paired t test, `scipy.stats.ttest_rel`: that of one sample on the differences.
    """
    seeds = tuple(sorted(a.keys() & b.keys()))
    if not seeds:
        return None
    ours, theirs = [a[seed] for seed in seeds], [b[seed] for seed in seeds]
    largest = max(map(abs, ours + theirs))
    differences = [_rounded(x - y, largest) for x, y in zip(ours, theirs, strict=True)]
    found = interval(differences, confidence)
    if found.deviation is None or found.deviation <= SAME * largest:
        exact = found if found.deviation is None else Interval(found.n, found.mean, 0.0, 0.0)
        return Paired(seeds, exact, None)
    from scipy.stats import ttest_rel

    return Paired(seeds, found, float(ttest_rel(ours, theirs).pvalue))


def _rounded(difference: float, largest: float) -> float:
    """Zero where only rounding is left of two equal figures."""
    return 0.0 if abs(difference) <= SAME * largest else difference


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values adjusted for their number, in their order: below 0.05 holds for all of them together.

    The step-down procedure of Holm (1979), A simple sequentially rejective multiple test procedure,
    Scandinavian Journal of Statistics 6(2): the smallest p times m, the next times m − 1, …, none smaller
    than the one before it, at most 1.
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    factors = range(len(p_values), 0, -1)
    steps = (min(1.0, factor * p_values[i]) for i, factor in zip(order, factors, strict=True))
    adjusted = dict(zip(order, accumulate(steps, max), strict=True))
    return [adjusted[i] for i in range(len(p_values))]
