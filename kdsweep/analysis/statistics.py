"""What a few seeds and test images show, and what they do not: intervals, tests, corrections.

All functions are pure, of numbers and arrays. Seeds and test images are both samples: a mean over them is
known only as well as other seeds *and* other images would repeat it. docs/report.md explains the rules, and
the simulation that tests them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import accumulate
from math import exp, inf, log
from statistics import fmean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
SAME = 1e-9  # a smaller spread, relative to the values, is rounding: one image is a millionth or more

Array = NDArray[Any]


@dataclass(frozen=True)
class Interval:
    """A mean over `n` seeds, and how well it is known.

    `deviation` is the sample deviation over seeds (n − 1). `half` is half the 95 % interval over seeds and
    images; `over_seeds` and `over_images` are halves over each of them alone. One seed, or figures without
    their images, leave them None.
    """

    n: int
    mean: float
    deviation: float | None
    half: float | None
    over_seeds: float | None = None
    over_images: float | None = None

    @property
    def low(self) -> float | None:
        return None if self.half is None else self.mean - self.half

    @property
    def high(self) -> float | None:
        return None if self.half is None else self.mean + self.half

    def times(self, factor: float) -> "Interval":
        """The interval in another unit, such as percent."""
        known = {each.name: getattr(self, each.name) for each in fields(self)[1:]}
        scaled = {name: None if value is None else value * factor for name, value in known.items()}
        return Interval(self.n, **scaled)  # type: ignore[arg-type]

    @property
    def without_zero(self) -> bool:
        """Whether the interval is known and does not contain 0."""
        return self.half is not None and abs(self.mean) > self.half


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds × test images, with the variance that comes from each of the two.

    `seeds` and `images` are variances of the mean, None if unknown; both contain `both`, the chance of a seed
    on an image. `count` is the number of images.
    """

    n: int
    mean: float
    deviation: float | None
    seeds: float | None
    images: float | None = None
    both: float = 0.0
    count: float = inf

    @property
    def variance(self) -> float | None:
        """The variance by seeds and images as crossed random effects, at least that of either one.

        None with one seed.
        """
        if self.seeds is None or self.images is None:
            return self.seeds
        return max(self.seeds + self.images - self.both, self.seeds, self.images)

    @property
    def freedom(self) -> float:
        """Degrees of freedom after Satterthwaite (1946), Biometrics Bulletin 2(6).

        Two seeds estimate their spread so poorly that only they count: one degree.
        """
        variance = self.variance
        if self.n <= 2 or not variance or self.seeds is None or self.images is None:
            return max(self.n - 1, 1)
        return variance**2 / (self.seeds**2 / (self.n - 1) + self.images**2 / (self.count - 1))

    def interval(self, confidence: float = CONFIDENCE) -> Interval:
        """mean ± t · √variance, at least as wide as the interval of seeds or of images alone."""
        tail = (1 - confidence) / 2
        halves = {
            name: None if variance is None else _t(tail, freedom) * variance**0.5
            for name, (variance, freedom) in self._parts.items()
        }
        half = None if halves["all"] is None else max(each or 0.0 for each in halves.values())
        return Interval(self.n, self.mean, self.deviation, half, halves["seeds"], halves["images"])

    @property
    def _parts(self) -> dict[str, tuple[float | None, float]]:
        """The variances with their degrees of freedom."""
        return {
            "seeds": (self.seeds, max(self.n - 1, 1)),
            "images": (self.images, max(self.count - 1, 1)),
            "all": (self.variance, self.freedom),
        }

    def p(self, pull: float = 0.0, among: int = 1) -> float | None:
        """Two-sided p of a mean of 0, by the t test of the interval. None if no variance is known.

        If the estimate was chosen as the best `among` several, `pull` is its correlation with the figure that
        chose it, and p is that of the largest of so many equal ones: Gupta (1963), Ann. Math. Stat. 34(3).
        """
        from scipy.special import nctdtr

        if self.variance is None:
            return None
        plain = max(
            _p(self.mean, each, freedom) for each, freedom in self._parts.values() if each is not None
        )
        if pull <= 0 or among < 2 or not self.variance:
            return plain
        t = abs(self.mean) / self.variance**0.5
        # the estimate is pull · M + √(1 − pull²) · Z, M being the largest of `among` standard normals
        rest = (1 - pull**2) ** 0.5
        largest, weights = _largest(among)
        shift = pull * largest / rest
        tails = 1 - nctdtr(self.freedom, shift, t / rest) + nctdtr(self.freedom, shift, -t / rest)
        return float(np.clip(np.nan_to_num(tails) @ weights, plain, 1))

    def p_among_many(self) -> float | None:
        """As `p`, for small levels, at which Satterthwaite's degrees of freedom are too optimistic.

        It solves mean² = t(seeds)² · variance of the seeds + t(images)² · the rest, whose coverage is never
        below its level: Banerjee (1960), Sankhyā 22(3/4).
        """
        plain = self.p()
        if plain is None or plain > 0.1 or self.n <= 2 or self.seeds is None or self.images is None:
            return plain  # above any small level
        images = max(self.images - self.both, 0.0)
        low, high = log(1e-30), 0.0
        for _ in range(40):
            middle = (low + high) / 2
            reach = _t(exp(middle) / 2, self.n - 1) ** 2 * self.seeds
            reach += _t(exp(middle) / 2, max(self.count - 1, 1)) ** 2 * images
            low, high = (middle, high) if reach > self.mean**2 else (low, middle)
        return max(exp(high), plain)


def of_seeds(values: Sequence[float]) -> Estimate:
    """The mean of one value per seed, without anything about images.

    Its interval is mean ± t(n − 1) · deviation / √n (Student 1908, Biometrika 6(1)). Raises ValueError
    without values.
    """
    if not values:
        raise ValueError("no values")
    centre = fmean(values)
    if len(values) == 1:
        return Estimate(1, centre, None, None)
    deviation = stdev(values)
    if deviation <= SAME * max(map(abs, values)):
        deviation = 0.0
    return Estimate(len(values), centre, deviation, deviation**2 / len(values))


def interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """The interval of `of_seeds`."""
    return of_seeds(values).interval(confidence)


def crossed(table: Array) -> Estimate:
    """The mean of a table [seeds, images]: right or wrong for one recipe, differences for two.

    It is a two-way table without repetition, with random seeds and images; the variances are the usual ones
    of its means and residuals (Searle, Casella & McCulloch 1992, Variance Components, section 4.3).
    """
    images = table.shape[1]
    by_seed, by_image = table.mean(axis=1), table.mean(axis=0)
    each = table.var(axis=1, ddof=1) / images if images > 1 else np.zeros(len(table))
    mean_of_all = float(by_image.var(ddof=1)) / images if images > 1 else 0.0
    return _with_images(by_seed.tolist(), each, mean_of_all, images)


def resampled(values: Sequence[float], replicates: Array, images: int) -> Estimate:
    """The mean of any figure over seeds, with a bootstrap over images.

    `replicates` [seeds, B] are the figures on B resamples of the test images, the same for all seeds (Efron &
    Tibshirani 1993, An Introduction to the Bootstrap, chapter 6).
    """
    each = np.nanvar(replicates, axis=1, ddof=1)
    return _with_images(values, each, float(np.nanvar(replicates.mean(axis=0), ddof=1)), images)


def on_own_images(values: Sequence[float], tables: Sequence[Array]) -> Estimate:
    """The mean if each seed has its own test images.

    They may overlap by an unknown number, so the images count as if they were one set.
    """
    found, each = of_seeds(values), [float(table.var(ddof=1)) / len(table) for table in tables]
    fewest = min(map(len, tables))
    images = fmean(each)
    return Estimate(found.n, found.mean, found.deviation, found.seeds, images, found.seeds or 0.0, fewest)


def _with_images(values: Sequence[float], each: Array, of_the_mean: float, images: int) -> Estimate:
    """`each` has the variance that images give to each seed's value, `of_the_mean` that of their mean."""
    found = of_seeds(values)
    if found.n == 1:
        return Estimate(1, found.mean, None, None, of_the_mean, 0.0, images)
    both = max(float(each.mean()) - of_the_mean, 0.0) / (found.n - 1)
    return Estimate(found.n, found.mean, found.deviation, found.seeds, of_the_mean, both, images)


def mcnemar(ours: int, theirs: int) -> float:
    """Exact p of two networks being right equally often, from the images on which only one is right.

    McNemar (1947), Psychometrika 12(2), with the binomial distribution.
    """
    if not ours + theirs:
        return 1.0
    from scipy.special import bdtr

    return float(min(1.0, 2 * bdtr(min(ours, theirs), ours + theirs, 0.5)))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values adjusted for their number, in their order, so that a level holds for all together.

    The step-down procedure of Holm (1979), A simple sequentially rejective multiple test procedure,
    Scandinavian Journal of Statistics 6(2), multiplies the smallest p by m, the next by m − 1, …; none is
    smaller than the one before it, and none exceeds 1.
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    factors = range(len(p_values), 0, -1)
    steps = (min(1.0, factor * p_values[i]) for i, factor in zip(order, factors, strict=True))
    adjusted = dict(zip(order, accumulate(steps, max), strict=True))
    return [adjusted[i] for i in range(len(p_values))]


def largest_of(count: int) -> float:
    """The expected largest of `count` standard normal values."""
    largest, weights = _largest(count)
    return float(largest @ weights)


def _largest(count: int) -> tuple[Array, Array]:
    """Nodes and weights of the largest of `count` standard normals, by Gauss–Legendre quadrature."""
    from scipy.special import ndtri

    places, weights = np.polynomial.legendre.leggauss(32)
    return ndtri(((places + 1) / 2) ** (1 / count)), weights / 2


def _p(mean: float, variance: float, freedom: float) -> float:
    """The two-sided p of the t test that a mean is 0."""
    from scipy.special import stdtr

    if not variance:
        return 0.0 if mean else 1.0
    return float(2 * stdtr(freedom, -abs(mean) / variance**0.5))


def _t(tail: float, freedom: float) -> float:
    """The value that t exceeds with the probability `tail`."""
    from scipy.special import stdtrit

    return float(-stdtrit(freedom, tail))
