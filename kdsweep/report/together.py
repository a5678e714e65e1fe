"""Several sweeps told as one, so that whatever shows a sweep shows them together."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from kdsweep.records import Record
from kdsweep.report.recipes import SEED, as_text, expected, seed_of
from kdsweep.result import Result, Sweep

NUMBER = "sweep"
# of a config: what its jobs' results do not depend on, or tell by themselves
APART = (SEED, "store", "store_budget", "plan", "debug", "baseline", "objective", "tracking", "hardware")
NAMED = ("dataset", "student", "method", "teacher", "temperature", "alpha", "chain_length")


def together(records: Sequence[Record]) -> Record:
    """One sweep of which every job has a value for all that sets these jobs apart.

    That is what any sweep swept, what jobs are named by (method, student, …) and, where jobs of two sweeps
    would still pass for one recipe, the keys on which their configs differ; at last the sweep's number, where
    a config is not known, or the same config gave other networks. Command and config remain the records'.
    """
    if len(records) == 1:
        return records[0]
    jobs = [
        _Job(number, record, result)
        for number, record in enumerate(records, start=1)
        for result in record.results
    ]
    keys = list(dict.fromkeys(key for record in records for key in record.sweep.keys))
    keys += _differing((job.result.recipe for job in jobs), keys)
    if _mixed(jobs, keys):
        keys += _differing((job.config for job in jobs if job.config), keys)
    if _mixed(jobs, keys):
        keys = [NUMBER, *keys]
    if SEED not in keys and len({seed_of(job.result) for job in jobs}) > 1:
        keys = [*keys, SEED]
    sweep = Sweep(records[0].sweep.run_id, keys, sum(map(expected, records)))
    return Record(
        sweep, [replace(job.result, number=i, swept=job.values(keys)) for i, job in enumerate(jobs)]
    )


@dataclass(frozen=True)
class _Job:
    """A job of one of several sweeps."""

    number: int  # of its sweep, from 1
    record: Record
    result: Result

    @cached_property
    def config(self) -> dict[str, Any]:
        """What its sweep fixed, by dotted keys; empty if that is not known.

        A sweep tells the config of its first job, from which those of other experiments differ everywhere.
        """
        sweep = self.record.sweep
        return {} if "experiment" in sweep.keys else _flat(sweep.config, sweep.keys)

    def values(self, keys: Sequence[str]) -> dict[str, Any]:
        """Of those keys that it has a value for: of the config, named by the job, or swept."""
        fixed = {key: value for key, value in self.config.items() if key not in NAMED}
        own = {NUMBER: self.number, SEED: seed_of(self.result)}
        known = fixed | self.result.recipe | own | self.result.swept
        return {key: known[key] for key in keys if known.get(key) is not None}

    def made_of(self) -> str:
        """What must be the same in all jobs of a recipe, whatever their config says."""
        models = {role: as_text(network.get("model") or {}) for role, network in self.result.networks.items()}
        data = {key: self.result.dataset.get(key) for key in ("fingerprint", "test_fingerprint")}
        return as_text(models | data)


def _flat(config: Mapping[str, Any], swept: Sequence[str], within: str = "") -> dict[str, Any]:
    """By dotted keys, without those that were swept, alone or with their group, and those that stay apart."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{within}{key}"
        if name in swept or name in APART:
            continue
        flat |= _flat(value, swept, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat


def _differing(known: Iterable[Mapping[str, Any]], keys: Sequence[str]) -> list[str]:
    """The keys, beyond `keys`, to which not all that have them give the same value."""
    found: dict[str, set[str]] = {}
    for each in known:
        for key, value in each.items():
            found.setdefault(key, set()).add(as_text({key: value}))
    return [key for key, values in found.items() if len(values) > 1 and key not in keys]


def _mixed(jobs: Sequence[_Job], keys: Sequence[str]) -> bool:
    """Whether jobs that are one recipe by `keys` come from sweeps that differ otherwise, or may do."""
    recipes: dict[str, list[_Job]] = {}
    for job in jobs:
        values = {key: value for key, value in job.values(keys).items() if key != SEED}
        recipes.setdefault(as_text(values), []).append(job)
    return any(_differ(group, keys) for group in recipes.values() if len({job.number for job in group}) > 1)


def _differ(group: Sequence[_Job], keys: Sequence[str]) -> bool:
    finished = [job for job in group if not job.result.error]
    students: dict[int, str] = {}
    for job in finished:
        key = job.result.networks["student"]["key"]
        if students.setdefault(seed_of(job.result), key) != key:
            return True
    configs = [job.config for job in group]
    return not all(configs) or bool(_differing(configs, keys)) or len({job.made_of() for job in finished}) > 1
