"""The leaderboard: a row per recipe, best first by validation, each compared on the test split.

Chosen is by validation alone; the test split measures what was chosen.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import fmean
from typing import Any

from kdsweep.records import Record
from kdsweep.report.recipes import Recipe, recipes
from kdsweep.report.statistics import Interval, Paired, holm, interval, paired
from kdsweep.result import Result

LEVEL = 0.05  # of the Holm-adjusted p, below which a difference is claimed


@dataclass(frozen=True)
class Difference:
    """Test accuracy of one recipe above another network's, paired by seed, in units of accuracy (0 to 1).

    `p` is adjusted for all comparisons of its kind in the report (`compared` of them have a p), None where
    the test is undefined: one seed, or the same difference in all.
    """

    seeds: tuple[int, ...]
    interval: Interval
    p: float | None
    compared: int

    @property
    def claimed(self) -> bool:
        """Whether it is more than chance: 0 is not in the interval, and the adjusted p is below LEVEL."""
        return self.interval.without_zero and self.p is not None and self.p < LEVEL


@dataclass(frozen=True)
class Row:
    """A recipe of the leaderboard. Accuracies are 0 to 1; costs and times are means over the seeds.

    `rank` is 1 for the best of its data set, whose name (`dataset`) has what sets it apart from other data of
    that name. `versus_alone` is None without a baseline, `versus_teacher` without a teacher, `versus_best`
    for the best itself. `teacher` has the teacher's costs (empty without).
    """

    rank: int
    recipe: Recipe
    dataset: str
    label: str  # "T = 4, alpha = 0.1"
    values: dict[str, Any]  # swept key to value, without the seed
    seeds: tuple[int, ...]
    val: Interval
    test: Interval
    alone: Interval | None
    teacher_test: Interval | None
    versus_alone: Difference | None
    versus_teacher: Difference | None
    versus_best: Difference | None
    cost: dict[str, float]  # parameters, flops, bytes, latency_ms if it was measured
    teacher_cost: dict[str, float]
    seconds: float  # of training the student
    reused: bool  # nothing of the students was trained in this sweep
    run_ids: tuple[str, ...]
    failed: int  # jobs of this recipe that failed; pruned ones are not counted

    def told(self) -> dict[str, Any]:
        """All of it but the jobs themselves, as JSON takes it."""
        shown = asdict(replace(self, recipe=Recipe({})))
        for name in ("versus_alone", "versus_teacher", "versus_best"):
            difference: Difference | None = getattr(self, name)
            if difference is not None:
                shown[name]["claimed"] = difference.claimed
        for cost in filter(None, (shown["cost"], shown["teacher_cost"])):
            cost.setdefault("latency_ms", None)
        return {name: value for name, value in shown.items() if name != "recipe"}


def leaderboard(record: Record) -> list[Row]:
    """The rows of a sweep's finished recipes, data set by data set, best first.

    Best is the highest mean validation accuracy over the seeds, equals by validation cross-entropy.
    Of several sweeps make one first (`recipes.together`).
    """
    by_dataset = _by_dataset(recipes(record))
    ordered = list(by_dataset.values())
    best = {id(recipe): group[0] for group in ordered for recipe in group}
    flat = [recipe for group in ordered for recipe in group]
    alone = _differences((each.test("student"), each.test("scratch")) for each in flat)
    teacher = _differences((each.test("student"), each.test("teacher")) for each in flat)
    leader = _differences(
        (each.test("student"), {} if best[id(each)] is each else best[id(each)].test("student"))
        for each in flat
    )
    places = [(name, rank) for name, group in by_dataset.items() for rank in range(1, len(group) + 1)]
    return [_row(*each) for each in zip(places, flat, alone, teacher, leader, strict=True)]


def best_job(row: Row) -> Result:
    """Of a recipe the job of the highest validation accuracy, equals by lower cross-entropy."""
    return min(row.recipe.jobs, key=_order_of_job)


def _order_of_job(job: Result) -> tuple[float, float]:
    val = job.val()
    return -val["val/accuracy"], val["val/cross_entropy"]


def _by_dataset(found: Sequence[Recipe]) -> dict[str, list[Recipe]]:
    """Best first by data set. Accuracies on different data cannot be ranked against each other.

    Data of one name are different where their test images are; the label of each is its own.
    """
    groups: list[_Group] = []
    for recipe in found:
        if recipe.jobs:
            group = next((each for each in groups if each.takes(recipe)), None)
            if group is None:
                groups.append(group := _Group(recipe.dataset))
            group.recipes.append(recipe)
            group.tested |= recipe.tested
    found_by_group = [group.recipes for group in groups]
    return {
        name: sorted(group, key=_order)
        for name, group in zip(_names(found_by_group), found_by_group, strict=True)
    }


@dataclass
class _Group:
    """Recipes of one data set, and seed to the test images."""

    name: str
    recipes: list[Recipe] = field(default_factory=list)
    tested: dict[int, str] = field(default_factory=dict)

    def takes(self, recipe: Recipe) -> bool:
        """Whether its test images are the same, seed by seed; of seeds apart, whether any are."""
        if recipe.dataset != self.name:
            return False
        both = self.tested.keys() & recipe.tested.keys()
        if not both:
            return not set(self.tested.values()).isdisjoint(recipe.tested.values())
        return all(self.tested[seed] == recipe.tested[seed] for seed in both)


def _names(groups: Sequence[Sequence[Recipe]]) -> list[str]:
    """A name for each group; of one name, with what was swept of the data, or else by their test images."""
    names = [group[0].dataset for group in groups]
    for name in [name for name, count in Counter(names).items() if count > 1]:
        of_name = [i for i, each in enumerate(names) if each == name]
        apart = _apart([groups[i] for i in of_name])
        for i, told in zip(of_name, apart, strict=True):
            names[i] = f"{name} ({told})"
    return names


def _apart(groups: Sequence[Sequence[Recipe]]) -> list[str]:
    """What sets data of one name apart: the fewest swept keys that do, or the number of each."""
    keys = dict.fromkeys(key for group in groups for recipe in group for key in recipe.values)
    of_data = [key for key in keys if key == "dataset" or key.startswith("dataset.")]
    told: list[list[str]] = [[] for _ in groups]
    for key in [*of_data, *(key for key in ("experiment", "sweep") if key in keys)]:
        values = [{Result(0, recipe.values).shown(key) for recipe in group} for group in groups]
        if all(len(each) == 1 for each in values) and len(set(map(frozenset, values))) > 1:
            for texts, (value,) in zip(told, values, strict=True):
                texts.append(f"{key} = {value}")
            if len(set(map(tuple, told))) == len(told):
                return [", ".join(texts) for texts in told]
    return [f"test images {number}" for number in range(1, len(groups) + 1)]


def _order(recipe: Recipe) -> tuple[float, float]:
    entropy = fmean(recipe.val("student", "val/cross_entropy").values())
    return -fmean(recipe.val("student").values()), entropy


def _differences(
    pairs: Iterable[tuple[Mapping[int, float], Mapping[int, float]]],
) -> list[Difference | None]:
    """Each a − b, their p adjusted for all of them."""
    found = [paired(a, b) for a, b in pairs]
    tested = [i for i, each in enumerate(found) if each is not None and each.p is not None]
    adjusted = dict(zip(tested, holm([_p(found[i]) for i in tested]), strict=True))
    return [
        None if each is None else Difference(each.seeds, each.difference, adjusted.get(i), len(tested))
        for i, each in enumerate(found)
    ]


def _p(found: Paired | None) -> float:
    assert found is not None and found.p is not None
    return found.p


def _row(
    place: tuple[str, int],
    recipe: Recipe,
    alone: Difference | None,
    teacher: Difference | None,
    best: Difference | None,
) -> Row:
    students = [job.networks["student"] for job in recipe.jobs]
    return Row(
        rank=place[1],
        recipe=recipe,
        dataset=place[0],
        label=recipe.label,
        values=recipe.values,
        seeds=tuple(recipe.seeds),
        val=interval(list(recipe.val("student").values())),
        test=interval(list(recipe.test("student").values())),
        alone=_interval(recipe.test("scratch")),
        teacher_test=_interval(recipe.test("teacher")),
        versus_alone=alone,
        versus_teacher=teacher,
        versus_best=best,
        cost=recipe.cost("student"),
        teacher_cost=recipe.cost("teacher"),
        seconds=fmean(each["seconds"] for each in students),
        reused=all(each["reused"] for each in students),
        run_ids=tuple(job.run_id for job in recipe.jobs if job.run_id),
        failed=sum(job.failed for job in recipe.lost),
    )


def _interval(by_seed: Mapping[int, float]) -> Interval | None:
    return interval(list(by_seed.values())) if by_seed else None
