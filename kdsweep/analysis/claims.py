"""Which differences between the recipes of a data set are claimed.

One comparison is the primary one: the recipe chosen by validation against the student alone. It has nearly
all of the 5 % in which a report may claim a difference that is none. The other comparisons share the rest,
after Holm, and have the whole 5 % once the primary one is claimed, so that all of them together keep to 5 %
(the fallback procedure, Wiens 2003, Pharmaceutical Statistics 2(3)).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kdsweep.analysis.measured import Compared, Tested, compared
from kdsweep.analysis.recipes import Recipe
from kdsweep.analysis.statistics import Interval, holm, largest_of

LEVEL = 0.05  # of the adjusted p, below which a difference is claimed
PRIMARY = 0.98  # share of LEVEL that the primary comparison has
MOST_PULL = 0.99


@dataclass(frozen=True)
class Difference:
    """Test accuracy of one recipe above another network's, paired by seed and image, in units of accuracy (0
    to 1).

    `p` is adjusted for the choice of the recipe if this is the `primary` comparison, else for all `among`
    comparisons of the report; None where there is no test: with one seed, or of comparisons that are only
    shown. With one seed `alone_right` counts the images on which only one of the two networks is right, ours
    first.
    """

    seeds: tuple[int, ...]
    interval: Interval
    p: float | None = None
    among: int = 1
    primary: bool = False
    alone_right: tuple[int, int] | None = None

    @property
    def claimed(self) -> bool:
        """Whether it is more than chance, of seeds and of test images."""
        known = self.interval.over_images is not None
        return known and self.interval.without_zero and self.p is not None and self.p <= LEVEL


@dataclass(frozen=True)
class Claims:
    """Of each recipe of a data set, in their order, how it compares; None where there is nothing to compare.

    `luck` is how much of its test accuracy the best recipe may owe to having been chosen, at most about; None
    where that cannot be known.
    """

    alone: Sequence[Difference | None]
    teacher: Sequence[Difference | None]
    best: Sequence[Difference | None]
    luck: float | None


@dataclass
class _Pair:
    """A comparison, and the p of its test before all are adjusted."""

    found: Compared
    p: float | None = None
    among: int = 1
    primary: bool = False


def claims(group: Sequence[Recipe]) -> Claims:
    """How the recipes of one data set compare, the best by validation being the first."""
    students = [recipe.test("student") for recipe in group]
    alone = [_pair(ours, recipe.test("scratch")) for ours, recipe in zip(students, group, strict=True)]
    teacher = [_pair(ours, recipe.test("teacher")) for ours, recipe in zip(students, group, strict=True)]
    best = [None, *(_pair(ours, students[0]) for ours in students[1:])]
    taught = [recipe for recipe in group if recipe.taught]
    spread = _lucky_spread(taught)
    primary = _primary(group, alone, best)
    if primary:
        primary.primary, primary.among = True, len(taught)
        deviation = (primary.found.estimate.variance or 0.0) ** 0.5
        pull = min((spread or 0.0) / deviation, MOST_PULL) if deviation else 0.0
        primary.p = primary.found.estimate.p(pull, len(taught))
    rest = [pair for pair in (*alone, *best) if pair and pair is not primary]
    _adjust(primary, rest)
    luck = spread * largest_of(len(taught)) if spread is not None and group[0].taught else None
    shown_of = [[_difference(pair) for pair in pairs] for pairs in (alone, teacher, best)]
    return Claims(shown_of[0], shown_of[1], shown_of[2], luck)


def _pair(ours: Mapping[int, Tested], theirs: Mapping[int, Tested]) -> _Pair | None:
    found = compared(ours, theirs)
    return _Pair(found) if found else None


def _primary(
    group: Sequence[Recipe], alone: Sequence[_Pair | None], best: Sequence[_Pair | None]
) -> _Pair | None:
    """The best distilled recipe against the student alone: its own baseline, or a recipe that is that
    student."""
    chosen = group[0]
    others = zip(best, group, strict=True)
    if not chosen.taught:
        return next((pair for pair, recipe in others if recipe.taught), None)
    beside = (pair for pair, recipe in others if not recipe.taught and recipe.same_student(chosen))
    return alone[0] or next(beside, None)


def _adjust(primary: _Pair | None, rest: Sequence[_Pair]) -> None:
    """Make each p such that at most LEVEL means a claim, and a false one in 5 % of reports at most."""
    share = 1.0
    if primary and primary.p is not None:
        primary.p = min(1.0, primary.p / PRIMARY)
        share = 1.0 if primary.p <= LEVEL else 1 - PRIMARY
    tests = [(pair, p) for pair in rest if (p := pair.found.estimate.p_among_many()) is not None]
    for (pair, _), p in zip(tests, holm([p for _, p in tests]), strict=True):
        pair.p, pair.among = min(1.0, p / share), len(tests)


def _lucky_spread(group: Sequence[Recipe]) -> float | None:
    """Of recipes that are equal, how much more test accuracy one has by a deviation of its validation
    accuracy.

    From the networks themselves: seed by seed, what they have beyond their recipe's and their seed's means,
    in validation and in test. None with less than two recipes or seeds.
    """
    seeds = sorted(set.intersection(*(set(recipe.seeds) for recipe in group))) if group else []
    if len(group) < 2 or len(seeds) < 2:
        return None
    val, test = (
        np.array([[by_seed[seed] for seed in seeds] for by_seed in found])
        for found in (
            [recipe.val("student") for recipe in group],
            [{job.seed: job.test("student") for job in recipe.jobs} for recipe in group],
        )
    )
    freedom = (len(group) - 1) * (len(seeds) - 1)
    beyond = [
        table - table.mean(axis=1, keepdims=True) - table.mean(axis=0) + table.mean() for table in (val, test)
    ]
    variance = float((beyond[0] ** 2).sum()) / freedom
    if variance <= 1e-12:
        return 0.0
    covariance = float((beyond[0] * beyond[1]).sum()) / freedom
    return float(max(0.0, covariance / (variance * len(seeds)) ** 0.5))


def _difference(pair: _Pair | None) -> Difference | None:
    if pair is None:
        return None
    found = pair.found
    interval = found.estimate.interval()
    return Difference(found.seeds, interval, pair.p, pair.among, pair.primary, found.alone_right)
