"""Jobs grouped into recipes: everything swept but the seed."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby
from statistics import fmean
from typing import Any

from kdsweep.analysis.measured import Tested, tested, tested_on
from kdsweep.results.names import CHAIN_LENGTH, Option, joined, named
from kdsweep.results.record import Record
from kdsweep.results.result import JobResult

SEED = "seed"
# a baseline has none of these, nor keys below
OF_DISTILLED = ("method", "experiment", "chain", CHAIN_LENGTH, "dataset.unlabeled", "dataset.unlabeled_share")


@dataclass
class Recipe:
    """Jobs that differ only by seed: `jobs` has a finished one per seed, `lost` jobs of the other seeds.

    A baseline belongs to its job: same student, same data, same seed.
    """

    values: dict[str, Any]
    jobs: list[JobResult] = field(default_factory=list)
    lost: list[JobResult] = field(default_factory=list)

    @property
    def seeds(self) -> list[int]:
        return [job.seed for job in self.jobs]

    @property
    def label(self) -> str:
        """The swept values as people write them (T=4 α=0.1), or else method and student."""
        if self.values:
            return named(self.values, self.options)
        groups = self._any.recipe
        return " ".join(str(groups[key]) for key in ("method", "student") if key in groups) or "one recipe"

    @property
    def dataset(self) -> str:
        """The data set's name, which other data may have too."""
        return str(self._any.recipe.get("dataset") or self._any.dataset.get("name", ""))

    @property
    def tested(self) -> dict[int, str]:
        """What identifies the test images, by seed: each seed may draw its own split."""
        return {job.seed: tested_on(job) for job in self.jobs}

    @property
    def taught(self) -> bool:
        """Whether there is a teacher; otherwise the recipe is a baseline."""
        return any(job.taught for job in self.jobs)

    def same_student(self, other: "Recipe") -> bool:
        """Whether both train the same network, and differ only in values that a baseline does not have."""
        ours, theirs = (recipe.jobs[0].student for recipe in (self, other))
        options = {*OF_DISTILLED, *self.options, *other.options}
        shared = [key for key in self.values.keys() & other.values.keys() if not within(key, options)]
        same = (ours.name, ours.model) == (theirs.name, theirs.model)
        return same and all(self.values[key] == other.values[key] for key in shared)

    @property
    def options(self) -> dict[str, Option]:
        """How the numbers of the method are written."""
        return joined(job.options for job in (*self.jobs, *self.lost))

    @property
    def _any(self) -> JobResult:
        return (self.jobs or self.lost)[0]

    def test(self, role: str) -> dict[int, Tested]:
        """What the networks of a role reached on the test split, by seed."""
        return tested(self.jobs, role)

    def val(self, role: str, figure: str = "accuracy") -> dict[int, float]:
        """A figure of the networks of a role on the validation split, by seed; empty without such a split."""
        found = {job.seed: job.networks[role].val for job in self.jobs if role in job.networks}
        return {seed: getattr(val, figure) for seed, val in found.items() if val}

    @property
    def validated(self) -> bool:
        """Whether images were held back for validation; only such a recipe may be chosen."""
        return all(job.val for job in self.jobs)

    def cost(self, role: str) -> dict[str, float]:
        """The costs of the networks of a role, means over the seeds; empty if no job has one."""
        costs = [job.networks[role].cost.known() for job in self.jobs if role in job.networks]
        names = [name for name in (costs[0] if costs else ()) if all(name in cost for cost in costs)]
        return {name: fmean(cost[name] for cost in costs) for name in names}

    def take(self, other: "Recipe") -> None:
        """Merge another recipe into this one: their swept values made no difference."""
        self.values = {key: value for key, value in self.values.items() if other.values.get(key) == value}
        self.jobs = _one_a_seed([*self.jobs, *other.jobs])
        self.lost = [job for job in (*self.lost, *other.lost) if job.seed not in self.seeds]


def recipes(record: Record) -> list[Recipe]:
    """The recipes of a sweep in the order of their first jobs. Combine several sweeps first (`together`).

    A job that was tried again counts once, by the try that finished. Recipes with the same students, tested
    on the same images, are one: their swept values made no difference, such as a baseline's temperature.
    """
    groups: dict[str, Recipe] = {}
    for result in record.results:
        values = {key: result.swept[key] for key in record.sweep.keys if key in result.swept and key != SEED}
        group = groups.setdefault(as_text(values), Recipe(values))
        (group.lost if result.error else group.jobs).append(replace(result, seed=seed_of(result)))
    found: list[Recipe] = []
    by_student: dict[tuple[int, str, str], Recipe] = {}
    for group in groups.values():
        group.jobs = _one_a_seed(group.jobs)
        group.lost = [job for job in group.lost if job.seed not in group.seeds]
        same = next((by_student[each] for each in _students(group) if each in by_student), None)
        if same is None or not _same_students(same, group):
            found.append(same := group)
        else:
            same.take(group)
        by_student |= dict.fromkeys(_students(group), same)
    return found


def _one_a_seed(jobs: Iterable[JobResult]) -> list[JobResult]:
    """The first job of each seed that has a baseline, else the first job."""
    ordered = sorted(jobs, key=lambda job: (job.seed, "scratch" not in job.networks))
    return [next(same) for _, same in groupby(ordered, key=lambda job: job.seed)]


def expected(record: Record) -> int:
    """How many jobs the sweep has. A search may resume another one's study: only jobs that ran count."""
    ran = len(record.results)
    return ran if record.sweep.config.get("search") else max(ran, record.sweep.jobs)


def seed_of(result: JobResult) -> int:
    """A job's seed; a job that failed early has it only among its swept values."""
    return int(result.swept.get(SEED, result.seed))


def as_text(values: Mapping[str, Any]) -> str:
    """The same text for equal values: 4 and 4.0 are equal, and the order of keys does not matter."""
    return repr({key: float(v) if type(v) is int else v for key, v in sorted(values.items())})


def within(key: str, keys: Collection[str]) -> bool:
    """Whether a dotted key is one of `keys`, or below one."""
    return any(key == each or key.startswith(f"{each}.") for each in keys)


def _students(recipe: Recipe) -> list[tuple[int, str, str]]:
    """Each job's seed, its student's key, and the test images."""
    return [(job.seed, job.student.key, tested_on(job)) for job in recipe.jobs]


def _same_students(a: Recipe, b: Recipe) -> bool:
    ours, theirs = ({seed: rest for seed, *rest in _students(recipe)} for recipe in (a, b))
    return all(ours[seed] == theirs[seed] for seed in ours.keys() & theirs.keys())
