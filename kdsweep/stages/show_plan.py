"""Print `plan=true`: the stages that jobs share, every job, and the total."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdsweep.config import Hardware
from kdsweep.results.names import METHOD, link_name, written
from kdsweep.stage import Stage
from kdsweep.stages.estimate import Need, makespan, needs
from kdsweep.store.store import Store
from kdsweep.system.table import Column, Fitting
from kdsweep.system.terminal import console, seconds


@dataclass(frozen=True)
class Planned:
    """A planned job: its swept values, its stages by role in the order of training.

    A search's jobs have the values at the ends of the intervals, since only the sweeper knows others.
    """

    swept: dict[str, Any]
    links: Mapping[str, Stage]


def show_plan(
    jobs: Sequence[Planned],
    title: str,
    store: Store,
    hardware: Hardware,
    at_once: int | None,
    trials: int | None = None,
    confirm: int | None = None,
    tuned: bool = False,
) -> None:
    """Print the plan; of a search with so many `trials`, what is known before it begins.

    `at_once` is the number of jobs at a time, None if unknown; `confirm` the number of fresh seeds that
    follow.
    """
    needed = every = needs([job.links for job in jobs], store, hardware)
    screen = console()
    screen.print(f"plan of {title}", markup=False)
    parts: list[Fitting | str]
    if trials is None:
        parts = [_shared_table(needed), _job_table(jobs, needed)] if len(jobs) > 1 else [_stage_table(needed)]
        parts += [_sum(jobs, needed, min(at_once or 1, len(jobs)))]
    else:
        known = _known(jobs)
        of_trials = {key: need for key, need in needed.items() if key not in known}
        needed = {key: need for key, need in needed.items() if key in known}
        parts = [_stage_table(needed), _search_sum(jobs, needed, of_trials, trials)]
    if confirm:
        parts += [_confirm_sum(jobs, every, confirm, tuned)]
    for part in parts:
        if isinstance(part, str) or part.rows:
            screen.print("", part, sep="\n", markup=False)
    screen.print("nothing was trained", markup=False)


def _known(jobs: Sequence[Planned]) -> set[str]:
    """The keys of the stages that all trials share."""
    return set.intersection(*({stage.key for stage in job.links.values()} for job in jobs))


def _shared_table(needed: Mapping[str, Need]) -> Fitting:
    return _stage_table({key: need for key, need in needed.items() if len(need.jobs) > 1}, jobs=True)


def _stage_table(needed: Mapping[str, Need], jobs: bool = False) -> Fitting:
    """A row per stage, with the number of `jobs` that need it if wanted."""
    columns = [
        Column("networks of several jobs" if jobs else "network", right=False),
        Column("", right=False),
        Column("epochs", worth=1),
        Column("time"),
        *([Column("jobs", worth=0)] if jobs else []),
        Column("", right=False, wraps=True),
    ]
    table = Fitting(columns)
    for need in needed.values():
        state = (
            "in the store" if need.there else f"resumes after epoch {need.done}" if need.done else "to train"
        )
        cells = (
            link_name(need.role),
            need.stage.name,
            str(need.epochs or ""),
            "" if need.there else _time(need.seconds),
            *([str(len(need.jobs))] if jobs else []),
            state,
        )
        table.add(cells, "dim" if need.there else None)
    return table


def _job_table(jobs: Sequence[Planned], needed: Mapping[str, Need]) -> Fitting:
    """A row per job: which of its stages it trains, finds in the store, or gets from another job."""
    roles = list(dict.fromkeys(role for job in jobs for role in job.links))
    roles.sort(key=lambda role: (role == "student", role == "scratch"))
    links = [Column(link_name(role), right=False, worth=worth) for worth, role in enumerate(roles)]
    keys = list(dict.fromkeys(key for job in jobs for key in job.swept))
    table = Fitting([Column("job"), *map(Column, keys), *links, Column("time")])
    for number, job in enumerate(jobs):
        own = [need for need in _of(job, needed) if need.jobs[0] == number and not need.there]
        cells = [_cell(needed[job.links[role].key], number) if role in job.links else "" for role in roles]
        known = [need.seconds for need in own if need.seconds is not None]
        time = seconds(sum(known)) if len(known) == len(own) else "?"
        swept = [written(job.swept.get(key, "")) for key in keys]
        table.add([str(number + 1), *swept, *cells, time if own else ""], None if own else "dim")
    return table


def _cell(need: Need, number: int) -> str:
    if need.there:
        return "store"
    return "train" if need.jobs[0] == number else f"job {need.jobs[0] + 1}"


def _of(job: Planned, needed: Mapping[str, Need]) -> list[Need]:
    return [needed[key] for key in dict.fromkeys(stage.key for stage in job.links.values())]


def _time(value: float | None) -> str:
    return "?" if value is None else seconds(value)


def _sum(jobs: Sequence[Planned], needed: Mapping[str, Need], at_once: int) -> str:
    untrained = [need for need in needed.values() if not need.there]
    there = len(needed) - len(untrained)
    if not untrained:
        return f"nothing to train: all {_count(needed.values())} are in the store"
    lines = [f"to train: {_count(untrained)}" + (f"; in the store: {there}" if there else "")]
    known = sum(need.seconds for need in untrained if need.seconds is not None)
    if known:
        time = f"about {seconds(known)} of training"
        if at_once > 1:
            parallel = makespan([_of(job, needed) for job in jobs], at_once)
            time += f", {seconds(parallel)} with {at_once} jobs at a time"
        lines.append(time)
    unknown = [need for need in untrained if need.seconds is None]
    if unknown:
        lines.append(f"not in the sum: {_count(unknown)}; {_never_trained(unknown)}")
    return "\n".join([*lines, *_reservations(untrained)])


def _search_sum(
    jobs: Sequence[Planned], needed: Mapping[str, Need], of_trials: Mapping[str, Need], trials: int
) -> str:
    """A trial counts as the job, among those at the ends of intervals, that trains the most stages and the
    longest, whatever the store has of it: which trials will come is unknown."""
    untrained = [need for need in needed.values() if not need.there]
    every = {**needed, **of_trials}
    kinds = [[need for need in _of(job, every) if need.stage.key in of_trials] for job in jobs]
    each = max(kinds, key=len)
    own = " and ".join(link_name(need.role) for need in each)
    lines = [
        f"known in advance: {_count(untrained)} to train"
        if untrained
        else "known in advance: nothing to train"
    ]
    lines.append(
        f"at most {trials} trials train their {own}"
        if each
        else f"at most {trials} trials, of these networks"
    )
    lines.append(f"to train: at most {len(untrained) + trials * len(each)} networks")
    wanted = [*untrained, *of_trials.values()]
    unknown = [need for need in wanted if need.seconds_from_the_start is None]
    if unknown:
        return "\n".join([*lines, f"duration unknown: {_never_trained(unknown)}"])
    longest = max(sum(need.seconds_from_the_start or 0 for need in kind) for kind in kinds)
    known = sum(need.seconds or 0 for need in untrained)
    lines.append(f"at most about {seconds(known + trials * longest)} of training, for all {trials} trials")
    return "\n".join([*lines, *_reservations(wanted)])


def _confirm_sum(jobs: Sequence[Planned], needed: Mapping[str, Need], confirm: int, tuned: bool) -> str:
    """The recipe is still unknown: count the longest, of whose stages a fresh seed shares none."""
    taught = [_of(job, needed) for job in jobs if "teacher" in job.links]
    if not taught:
        return f"confirm={confirm}: nothing to confirm, because no student has a teacher"
    # of tuned methods each has its best trial and its published defaults, but the other links are shared
    of_methods = Counter(job.swept.get(METHOD) for job in jobs if "teacher" in job.links)
    students = sum(min(count, 2) for count in of_methods.values()) if tuned else 1
    most = confirm * (max(map(len, taught)) - 1 + students)
    line = f"then confirm={confirm}: at most {most} networks of {confirm} fresh seeds"
    if any(need.seconds_from_the_start is None for needs_of in taught for need in needs_of):
        return line
    dearest = max(taught, key=lambda needs_of: sum(need.seconds_from_the_start or 0 for need in needs_of))
    *others, student = [need.seconds_from_the_start or 0 for need in dearest]
    return f"{line}, about {seconds(confirm * (sum(others) + students * student))} of training"


def _never_trained(unknown: Sequence[Need]) -> str:
    names = ", ".join(dict.fromkeys(need.stage.name for need in unknown))
    return f"{names} never trained on these data with this recipe"


def _reservations(untrained: Sequence[Need]) -> list[str]:
    """What may make a sum of times wrong, a line each."""
    lines = []
    if any(need.other_threads for need in untrained):
        lines.append("some times were measured with another number of CPU threads")
    if any(need.stage.training.patience is not None for need in untrained):
        lines.append("training.patience may end trainings earlier")
    return lines


def _count(needed: Collection[Need]) -> str:
    """3 networks (1 teacher, 2 baselines)."""
    roles = Counter(need.role for need in needed)
    each = [f"{count} {link_name(role)}{'s' if count != 1 else ''}" for role, count in roles.items()]
    total = sum(roles.values())
    return f"{total} network{'s' if total != 1 else ''} ({', '.join(each)})"
