"""The leaderboard: a row per recipe, best first by validation, each compared on the test split.

Recipes are chosen by validation accuracy alone; the test split only measures the choice. Recipes for which no
image was held back cannot be chosen: they come last, in the order of the sweep.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from math import inf
from statistics import fmean
from typing import Any

from kdsweep.analysis.claims import Difference, claims
from kdsweep.analysis.measured import accuracy
from kdsweep.analysis.recipes import Recipe, recipes
from kdsweep.analysis.statistics import Interval, interval
from kdsweep.results.names import METHOD, written
from kdsweep.results.record import Record
from kdsweep.results.result import JobResult


@dataclass(frozen=True)
class Row:
    """A recipe of the leaderboard. Accuracies are 0 to 1; costs and times are means over the seeds.

    `rank` is 1 for the best recipe of its data set; it and `val` are None if no image was held back for
    validation. `dataset` is a name that no other data set of the report has. `versus_alone` is None without a
    baseline, `versus_teacher` without a teacher, `versus_best` for the best itself and without a rank,
    `versus_kd` but in a comparison of tuned methods or of methods without a rank; `teacher_cost` is empty
    without a teacher.
    """

    rank: int | None
    recipe: Recipe
    dataset: str
    label: str  # T=4 α=0.1
    values: dict[str, Any]  # swept key to value, without the seed
    seeds: tuple[int, ...]
    val: Interval | None
    test: Interval
    alone: Interval | None
    teacher_test: Interval | None
    cost: dict[str, float]  # parameters, flops, bytes, latency_ms if it was measured
    teacher_cost: dict[str, float]
    seconds: float  # of training the student
    reused: bool  # nothing of the students was trained in this sweep
    run_ids: tuple[str, ...]
    failed: int  # jobs of this recipe that failed; pruned ones are not counted
    versus_alone: Difference | None = None
    versus_teacher: Difference | None = None
    versus_best: Difference | None = None
    versus_kd: Difference | None = None
    luck: float | None = None  # test accuracy that the best may owe to the choice

    def as_dict(self) -> dict[str, Any]:
        """Everything but the jobs, in the types of JSON."""
        values = {
            each.name: _plain(getattr(self, each.name)) for each in fields(self) if each.name != "recipe"
        }
        for cost in filter(None, (values["cost"], values["teacher_cost"])):
            cost.setdefault("latency_ms", None)
        return values


def _plain(value: Any) -> Any:
    if isinstance(value, Difference):
        return {**asdict(value), "claimed": value.claimed}
    return asdict(value) if isinstance(value, Interval) else value


def leaderboard(record: Record) -> list[Row]:
    """The rows of a sweep's finished recipes, data set by data set, best first.

    The best recipe has the highest mean validation accuracy over its seeds; ties go by validation
    cross-entropy. Recipes without validation follow in the order of their first jobs. Several sweeps must be
    combined into one first (`combine.together`).
    """
    groups, tuned = _by_dataset(recipes(record)), bool(record.trials)
    return [row for name, group in groups.items() for row in _rows(name, group, tuned)]


def _rows(dataset: str, group: Sequence[Recipe], tuned: bool) -> Iterator[Row]:
    found = claims(group, _tuned_kd(group) if tuned else _kd_of_unranked(group))
    differences = zip(found.alone, found.teacher, found.best, found.reference, strict=True)
    for rank, (recipe, (alone, teacher, best, kd)) in enumerate(zip(group, differences, strict=True), 1):
        row = _row(dataset, rank if recipe.validated else None, recipe)
        row = replace(row, luck=found.luck if rank == 1 else None)
        yield replace(row, versus_alone=alone, versus_teacher=teacher, versus_best=best, versus_kd=kd)


def _tuned_kd(group: Sequence[Recipe]) -> int | None:
    """The place of the kd that other methods are compared with: its best trial, or else its defaults."""
    places = [place for place, recipe in enumerate(group) if recipe.values.get(METHOD) == "kd"]
    return max(places, key=lambda place: len(group[place].values), default=None)


def _kd_of_unranked(group: Sequence[Recipe]) -> int | None:
    """The place of kd where no recipe can be the best to compare with; None if there are several kd."""
    places = [place for place, recipe in enumerate(group) if recipe.values.get(METHOD) == "kd"]
    return places[0] if len(places) == 1 and not any(recipe.validated for recipe in group) else None


def best_job(row: Row) -> JobResult | None:
    """Of a recipe the job of the highest validation accuracy, equals by lower cross-entropy; None without
    validation."""
    return min(row.recipe.jobs, key=JobResult.order) if row.rank else None


def best_jobs(rows: Sequence[Row]) -> dict[str, JobResult]:
    """The best recipe's best job, by data set. One without validation has none, unless its job is the only
    one, so that there is nothing to choose."""
    jobs: dict[str, list[JobResult]] = {}
    for row in rows:
        jobs.setdefault(row.dataset, []).extend(row.recipe.jobs)
    best = {row.dataset: job for row in rows if row.rank == 1 and (job := best_job(row))}
    return best | {name: only[0] for name, only in jobs.items() if len(only) == 1}


def shown_job(rows: Sequence[Row]) -> JobResult:
    """The job whose costs and curves stand for a sweep's: the best one, or the first if none is the best."""
    return best_job(rows[0]) or rows[0].recipe.jobs[0]


def _by_dataset(found: Sequence[Recipe]) -> dict[str, list[Recipe]]:
    """The recipes by data set, best first: accuracies on different data cannot be ranked together.

    Data of one name are different data sets if their test images differ; each gets a label of its own.
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
        """Whether a recipe has the same test images, seed by seed; if no seed is shared, whether any are."""
        if recipe.dataset != self.name:
            return False
        both = self.tested.keys() & recipe.tested.keys()
        if not both:
            return not set(self.tested.values()).isdisjoint(recipe.tested.values())
        return all(self.tested[seed] == recipe.tested[seed] for seed in both)


def _names(groups: Sequence[Sequence[Recipe]]) -> list[str]:
    """A name for each group; equal names get what was swept of the data, or a number, added."""
    names = [group[0].dataset for group in groups]
    for name in [name for name, count in Counter(names).items() if count > 1]:
        of_name = [i for i, each in enumerate(names) if each == name]
        apart = _apart([groups[i] for i in of_name])
        for i, difference in zip(of_name, apart, strict=True):
            names[i] = f"{name} ({difference})"
    return names


def _apart(groups: Sequence[Sequence[Recipe]]) -> list[str]:
    """What distinguishes data of one name: as few swept keys as do, or numbers."""
    keys = dict.fromkeys(key for group in groups for recipe in group for key in recipe.values)
    of_data = [key for key in keys if key == "dataset" or key.startswith("dataset.")]
    labels: list[list[str]] = [[] for _ in groups]
    for key in [*of_data, *(key for key in ("experiment", "sweep") if key in keys)]:
        values = [{written(recipe.values.get(key, "")) for recipe in group} for group in groups]
        if all(len(each) == 1 for each in values) and len(set(map(frozenset, values))) > 1:
            for texts, (value,) in zip(labels, values, strict=True):
                texts.append(f"{key}={value}")
            if len(set(map(tuple, labels))) == len(labels):
                return [", ".join(texts) for texts in labels]
    return [f"test images {number}" for number in range(1, len(groups) + 1)]


def _order(recipe: Recipe) -> tuple[float, float]:
    if not recipe.validated:
        return inf, inf
    entropy = fmean(recipe.val("student", "cross_entropy").values())
    return -fmean(recipe.val("student").values()), entropy


def _row(dataset: str, rank: int | None, recipe: Recipe) -> Row:
    students = [job.student for job in recipe.jobs]
    return Row(
        rank=rank,
        recipe=recipe,
        dataset=dataset,
        label=recipe.label,
        values=recipe.values,
        seeds=tuple(recipe.seeds),
        val=interval(list(recipe.val("student").values())) if recipe.validated else None,
        test=accuracy(recipe.test("student")).interval(),
        alone=_interval(recipe, "scratch"),
        teacher_test=_interval(recipe, "teacher"),
        cost=recipe.cost("student"),
        teacher_cost=recipe.cost("teacher"),
        seconds=fmean(student.seconds for student in students),
        reused=all(student.reused for student in students),
        run_ids=tuple(job.run_id for job in recipe.jobs if job.run_id),
        failed=sum(job.failed for job in recipe.lost),
    )


def _interval(recipe: Recipe, role: str) -> Interval | None:
    found = recipe.test(role)
    return accuracy(found).interval() if found else None
