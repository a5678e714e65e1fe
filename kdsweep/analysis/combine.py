"""Several sweeps combined into one, which every table and chart can then show."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from kdsweep import config
from kdsweep.analysis.recipes import SEED, as_text, expected, seed_of, within
from kdsweep.config import Config
from kdsweep.results.names import joined, usual
from kdsweep.results.record import Record
from kdsweep.results.result import JobResult, SweepInfo

NUMBER = "sweep"
APART = (SEED, "method.options", *Config.marked(config.APART, config.OF_SWEEP))
MADE_BY = ("dataset", "student", "method", "teacher", "experiment")


def together(records: Sequence[Record]) -> Record:
    """One sweep, in which every job has a value for each key on which the jobs differ.

    These keys are what any sweep swept, what jobs are named by (method, student, …), the keys on which the
    configs of otherwise equal jobs differ, and finally the sweep's number, if one config gave different
    networks. Command and config stay with the records.
    """
    if len(records) == 1:
        return records[0]
    records = _each_job_once(records)
    options = joined(result.options for record in records for result in record.results)
    from_recipes = frozenset(usual(options))
    jobs = [
        _Job(number, record, result, from_recipes)
        for number, record in enumerate(records, start=1)
        for result in record.results
    ]
    keys = list(dict.fromkeys(key for record in records for key in record.sweep.keys))
    keys += _differing((job.result.recipe for job in jobs), keys)
    keys += _differing_configs(jobs, keys)
    if _mixed(jobs, keys):
        keys = [NUMBER, *keys]
    if SEED not in keys and len({seed_of(job.result) for job in jobs}) > 1:
        keys = [*keys, SEED]
    sweep = SweepInfo(records[0].sweep.run_id, keys, len(jobs) + _without_result(records))
    results = [replace(job.result, number=i, swept=job.values(keys)) for i, job in enumerate(jobs)]
    return Record(sweep, results, confirmations=[each for record in records for each in record.confirmations])


def _each_job_once(records: Sequence[Record]) -> list[Record]:
    """A resumed search lists the jobs of its earlier commands too, whose records may be here as well."""
    seen = {job.run_id for each in records for job in each.results if job.run_id not in each.sweep.earlier}
    unique = []
    for record in records:
        again = seen & set(record.sweep.earlier)
        unique.append(replace(record, results=[job for job in record.results if job.run_id not in again]))
        seen |= set(record.sweep.earlier)
    return unique


def _without_result(records: Sequence[Record]) -> int:
    """How many jobs have no result. Sweeps of one command share jobs: one may run what another left."""
    commands: dict[str, list[Record]] = {}
    own = Config.marked(config.APART, config.OF_SWEEP)
    for number, record in enumerate(records):
        sweep = record.sweep
        config_of = {key: value for key, value in _flat(sweep.config) if not within(key, own)}
        known = as_text(config_of | {"spec": sweep.spec}) if sweep.spec and config_of else str(number)
        commands.setdefault(known, []).append(record)
    count = 0
    for same in commands.values():
        ran = {as_text(result.swept) for record in same for result in record.results}
        if len(same) == 1 or any(record.sweep.config.get("search") for record in same):
            count += sum(expected(record) - len(record.results) for record in same)
        else:
            count += max(0, max(map(expected, same)) - len(ran))
    return count


@dataclass(frozen=True)
class _Job:
    """A job of one of several sweeps."""

    number: int  # of its sweep, from 1
    record: Record
    result: JobResult
    from_recipes: frozenset[str]  # keys that a job's recipe has if the job uses them

    @cached_property
    def config(self) -> dict[str, Any]:
        """The job's config by dotted keys, or that of the first job if it ended before it had its own."""
        known = self.result.config or self.record.sweep.config
        return {key: value for key, value in _flat(known) if not within(key, {*APART, *self.from_recipes})}

    def values(self, keys: Sequence[str]) -> dict[str, Any]:
        """The job's values for these keys, from its config, its recipe or its swept values."""
        own = {NUMBER: self.number, SEED: seed_of(self.result)}
        known = self.config | self.result.recipe | own | self.result.swept
        return {key: known[key] for key in keys if known.get(key) is not None}

    def made_of(self) -> str:
        """What all jobs of a recipe must share, whatever their configs say."""
        networks = {role: network for role, network in self.result.networks.items() if role != "scratch"}
        models = {role: as_text(network.model) for role, network in networks.items()}
        data = {key: self.result.dataset.get(key) for key in ("fingerprint", "test_fingerprint")}
        return as_text(models | data)


def _flat(config: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, list) and value and isinstance(value[0], Mapping):  # assistants
            value = {str(i): each for i, each in enumerate(value)}
        name = f"{before}{key}"
        yield from _flat(value, f"{name}.") if isinstance(value, Mapping) else [(name, value)]


def _differing_configs(jobs: Sequence[_Job], keys: Sequence[str]) -> list[str]:
    """The keys on which configs differ among jobs that `MADE_BY` does not distinguish.

    Swept keys, and keys that follow another key, are left out.
    """
    swept = [key.replace("/", ".") for key in keys]
    groups = _across(jobs, MADE_BY)
    found = dict.fromkeys(key for group in groups for key in _differing([job.config for job in group], keys))
    known = [key for key in found if not within(key, swept)]

    def follows(key: str) -> bool:
        parts = key.split(".")
        suffixes = [".".join(parts[i:]) for i in range(1, len(parts))]
        others = [other for other in suffixes if other in found or within(other, swept)]
        return any(all(job.config.get(key) == job.config.get(other) for job in jobs) for other in others)

    return [key for key in known if not follows(key)]


def _differing(known: Iterable[Mapping[str, Any]], keys: Sequence[str]) -> list[str]:
    """The keys, beyond `keys`, that do not have the same value everywhere."""
    found: dict[str, set[str]] = {}
    for each in known:
        for key, value in each.items():
            found.setdefault(key, set()).add(as_text({key: value}))
    return [key for key, values in found.items() if len(values) > 1 and key not in keys]


def _across(jobs: Sequence[_Job], keys: Sequence[str]) -> list[list[_Job]]:
    """Groups of jobs with the same values for `keys`, if they come from several sweeps."""
    recipes: dict[str, list[_Job]] = {}
    for job in jobs:
        values = {key: value for key, value in job.values(keys).items() if key != SEED}
        recipes.setdefault(as_text(values), []).append(job)
    return [group for group in recipes.values() if len({job.number for job in group}) > 1]


def _mixed(jobs: Sequence[_Job], keys: Sequence[str]) -> bool:
    """Whether jobs that are one recipe by `keys` gave different networks."""
    return any(_differ(group) for group in _across(jobs, keys))


def _differ(group: Sequence[_Job]) -> bool:
    finished = [job for job in group if not job.result.error]
    students: dict[int, str] = {}
    for job in finished:
        key = job.result.student.key
        if students.setdefault(seed_of(job.result), key) != key:
            return True
    return len({job.made_of() for job in finished}) > 1
