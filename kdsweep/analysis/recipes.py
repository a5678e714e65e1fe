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
OF_DISTILLED = ("method", "experiment", "chain", CHAIN_LENGTH)  # a student alone has none, nor what is below


@dataclass
class Recipe:
    """The jobs that differ by their seed alone: `jobs` finished, one a seed; of the seeds of `lost` none did.

    A baseline is always the one of the same job: same student, same data, same seed.
    """

    values: dict[str, Any]
    jobs: list[JobResult] = field(default_factory=list)
    lost: list[JobResult] = field(default_factory=list)

    @property
    def seeds(self) -> list[int]:
        return [job.seed for job in self.jobs]

    @property
    def label(self) -> str:
        """The swept values as people write them (T=4 α=0.1); without any, method and student."""
        if self.values:
            return named(self.values, self.options)
        made = self._any.recipe
        return " ".join(str(made[key]) for key in ("method", "student") if key in made) or "one recipe"

    @property
    def dataset(self) -> str:
        """The data set's name, which other data may have as well."""
        return str(self._any.recipe.get("dataset") or self._any.dataset.get("name", ""))

    @property
    def tested(self) -> dict[int, str]:
        """Seed to what tells the test images; a split may be drawn anew for each seed."""
        return {job.seed: tested_on(job) for job in self.jobs}

    @property
    def taught(self) -> bool:
        """Whether there is a teacher; otherwise it is the student alone."""
        return any("teacher" in job.networks for job in self.jobs)

    def same_student(self, other: "Recipe") -> bool:
        """Whether both have one network, and no other swept value but what only a distilled one has."""
        ours, theirs = (recipe.jobs[0].student for recipe in (self, other))
        options = {*OF_DISTILLED, *self.options, *other.options}
        shared = [key for key in self.values.keys() & other.values.keys() if not within(key, options)]
        same = (ours.name, ours.model) == (theirs.name, theirs.model)
        return same and all(self.values[key] == other.values[key] for key in shared)

    @property
    def options(self) -> dict[str, Option]:
        """How the numbers of its method are written."""
        return joined(job.options for job in (*self.jobs, *self.lost))

    @property
    def _any(self) -> JobResult:
        return (self.jobs or self.lost)[0]

    def test(self, role: str) -> dict[int, Tested]:
        """Seed to what a network reached on the test split, of the seeds whose job has such a network."""
        return tested(self.jobs, role)

    def val(self, role: str, figure: str = "accuracy") -> dict[int, float]:
        """Seed to a figure of the validation split, of the seeds whose job has such a network."""
        networks = {job.seed: job.networks[role] for job in self.jobs if role in job.networks}
        return {seed: getattr(network.val, figure) for seed, network in networks.items()}

    def cost(self, role: str) -> dict[str, float]:
        """A network's costs, means over the seeds; empty where no job has such a network."""
        costs = [job.networks[role].cost.known() for job in self.jobs if role in job.networks]
        names = [name for name in (costs[0] if costs else ()) if all(name in cost for cost in costs)]
        return {name: fmean(cost[name] for cost in costs) for name in names}

    def take(self, other: "Recipe") -> None:
        """Become one with a recipe whose swept values made no difference."""
        self.values = {key: value for key, value in self.values.items() if other.values.get(key) == value}
        self.jobs = _one_a_seed([*self.jobs, *other.jobs])
        self.lost = [job for job in (*self.lost, *other.lost) if job.seed not in self.seeds]


def recipes(record: Record) -> list[Recipe]:
    """The recipes of a sweep in the order of their first jobs; of several, make one first (`together`).

    What was tried again counts once, by the job that finished. Swept values that made no difference, as the
    temperature of a student alone, make no recipes: those with the same students, tested on the same
    images, are one.
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
    """By seed the first job, or rather the first that has a baseline."""
    ordered = sorted(jobs, key=lambda job: (job.seed, "scratch" not in job.networks))
    return [next(same) for _, same in groupby(ordered, key=lambda job: job.seed)]


def expected(record: Record) -> int:
    """How many jobs the sweep is of; of a search, whose study may have gone on from another, those it ran."""
    ran = len(record.results)
    return ran if record.sweep.config.get("search") else max(ran, record.sweep.jobs)


def seed_of(result: JobResult) -> int:
    """A job's seed; one that failed early has not told it but among its swept values."""
    return int(result.swept.get(SEED, result.seed))


def as_text(values: Mapping[str, Any]) -> str:
    """By which equal values are known: 4 and 4.0 are one, whatever the order of the keys."""
    return repr({key: float(v) if type(v) is int else v for key, v in sorted(values.items())})


def within(key: str, keys: Collection[str]) -> bool:
    """Whether a dotted key is one of others, or below one."""
    return any(key == each or key.startswith(f"{each}.") for each in keys)


def _students(recipe: Recipe) -> list[tuple[int, str, str]]:
    """By seed, the key of the network that came of it, and what it was tested on."""
    return [(job.seed, job.student.key, tested_on(job)) for job in recipe.jobs]


def _same_students(a: Recipe, b: Recipe) -> bool:
    ours, theirs = ({seed: made for seed, *made in _students(each)} for each in (a, b))
    return all(ours[seed] == theirs[seed] for seed in ours.keys() & theirs.keys())
