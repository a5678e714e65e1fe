"""Which differences between the recipes of a data set are claimed.

One comparison is primary: the recipe chosen by validation against its baseline. It gets nearly all of the 5 %
of reports that may contain a false claim. The other comparisons share the rest, after Holm, or the whole 5 %
once the primary one is claimed, so that all of them together keep to 5 % (the fallback procedure, Wiens 2003,
Pharmaceutical Statistics 2(3)). Where no image was held back for validation, nothing is chosen: no comparison
is primary, and all share the 5 %.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kdsweep.analysis.measured import Compared, Tested, compared
from kdsweep.analysis.recipes import Recipe
from kdsweep.analysis.statistics import Interval, holm, largest_of

LEVEL = 0.05  # a difference is claimed if its adjusted p is at most this
PRIMARY = 0.98  # share of LEVEL that the primary comparison has
MOST_PULL = 0.99


@dataclass(frozen=True)
class Difference:
    """How far a recipe's test accuracy (0 to 1) is above another network's, paired by seed and image.

    `p` is adjusted for the choice of the recipe if this is the `primary` comparison, else for all `among`
    comparisons of the report. It is None without a test: with one seed, or if the comparison is only shown.
    With one seed `alone_right` counts the images on which only one of the two networks is right, ours first.
    """

    seeds: tuple[int, ...]
    interval: Interval
    p: float | None = None
    among: int = 1
    primary: bool = False
    alone_right: tuple[int, int] | None = None

    @property
    def claimed(self) -> bool:
        """Whether the difference is more than the chance of seeds and of test images."""
        known = self.interval.over_images is not None
        return known and self.interval.without_zero and self.p is not None and self.p <= LEVEL


@dataclass(frozen=True)
class Claims:
    """How each recipe of a data set compares, in their order; None if it has nothing to compare with.

    `luck` is about the most test accuracy that the best recipe may owe to the choice; None if it is unknown.
    """

    alone: Sequence[Difference | None]
    teacher: Sequence[Difference | None]
    best: Sequence[Difference | None]
    reference: Sequence[Difference | None]
    luck: float | None


@dataclass
class _Pair:
    """A comparison with the p of its test."""

    found: Compared
    p: float | None = None
    among: int = 1
    primary: bool = False


def claims(group: Sequence[Recipe], reference: int | None = None) -> Claims:
    """How the recipes of one data set compare, those that validation ranked first: the best one leads.

    Each is also compared with the recipe at the place of a `reference`.
    """
    ranked = [recipe for recipe in group if recipe.validated]
    students = [recipe.test("student") for recipe in group]
    alone = [
        _pair(ours, recipe.test("scratch") or ({} if ranked else _trained_alone(recipe, group)))
        for ours, recipe in zip(students, group, strict=True)
    ]
    teacher = [_pair(ours, recipe.test("teacher")) for ours, recipe in zip(students, group, strict=True)]
    best = [
        _pair(ours, students[0]) if 0 < place < len(ranked) else None for place, ours in enumerate(students)
    ]
    if reference == 0 and ranked:
        to_reference = best  # the same comparisons
    else:
        to_reference = [
            None if reference in (None, place) else _pair(ours, students[reference or 0])
            for place, ours in enumerate(students)
        ]
    taught = [recipe for recipe in ranked if recipe.taught]
    spread = _lucky_spread(taught)
    primary = _primary(ranked, alone[: len(ranked)], best[: len(ranked)]) if ranked else None
    if primary:
        primary.primary, primary.among = True, len(taught)
        deviation = (primary.found.estimate.variance or 0.0) ** 0.5
        pull = min((spread or 0.0) / deviation, MOST_PULL) if deviation else 0.0
        primary.p = primary.found.estimate.p(pull, len(taught))
    others = (*alone, *best, *(to_reference if to_reference is not best else ()))
    _adjust(primary, [pair for pair in others if pair and pair is not primary])
    luck = spread * largest_of(len(taught)) if spread is not None and group[0].taught else None
    shown = [[_difference(pair) for pair in pairs] for pairs in (alone, teacher, best, to_reference)]
    return Claims(shown[0], shown[1], shown[2], shown[3], luck)


def _pair(ours: Mapping[int, Tested], theirs: Mapping[int, Tested]) -> _Pair | None:
    found = compared(ours, theirs)
    return _Pair(found) if found else None


def _trained_alone(recipe: Recipe, group: Sequence[Recipe]) -> Mapping[int, Tested]:
    """What the student of a taught recipe reached in a recipe without teacher; empty if there is none."""
    alone = (each for each in group if recipe.taught and not each.taught and each.same_student(recipe))
    return next((each.test("student") for each in alone), {})


def _primary(
    group: Sequence[Recipe], alone: Sequence[_Pair | None], best: Sequence[_Pair | None]
) -> _Pair | None:
    """The best distilled recipe against its baseline, or against a recipe that trains that baseline."""
    chosen = group[0]
    others = zip(best, group, strict=True)
    if not chosen.taught:
        return next((pair for pair, recipe in others if recipe.taught), None)
    beside = (pair for pair, recipe in others if not recipe.taught and recipe.same_student(chosen))
    return alone[0] or next(beside, None)


def _adjust(primary: _Pair | None, rest: Sequence[_Pair]) -> None:
    """Adjust each p, so that p ≤ LEVEL is a claim, and at most 5 % of reports have a false one."""
    share = 1.0
    if primary and primary.p is not None:
        primary.p = min(1.0, primary.p / PRIMARY)
        share = 1.0 if primary.p <= LEVEL else 1 - PRIMARY
    tests = [(pair, p) for pair in rest if (p := pair.found.estimate.p_among_many()) is not None]
    for (pair, _), p in zip(tests, holm([p for _, p in tests]), strict=True):
        pair.p, pair.among = min(1.0, p / share), len(tests)


def _lucky_spread(group: Sequence[Recipe]) -> float | None:
    """How much test accuracy an equal recipe gains if its validation accuracy is a deviation higher.

    It is estimated from the networks: what each has beyond the means of its recipe and of its seed, in
    validation and in test. None with less than two recipes or seeds.
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
