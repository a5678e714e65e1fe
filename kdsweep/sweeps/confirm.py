"""confirm=K: train the recipe that a sweep chose, and the baseline, again with K fresh seeds.

A sweep chooses by the networks that it also judges, so the chosen recipe tends to have had lucky seeds. Fresh
seeds had no part in the choice. After tune=N, what was chosen is each method's best trial, which is compared
with its published defaults.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn

from kdsweep.errors import ConfigError
from kdsweep.results.names import METHOD
from kdsweep.results.result import JobResult, SweepInfo
from kdsweep.sweeps.overrides import key_of

if TYPE_CHECKING:
    from kdsweep.analysis.leaderboard import Row

Launch = Callable[[list[list[str]], int], Sequence[JobReturn]]


def check_confirm(wanted: int | None, keys: Sequence[str]) -> None:
    """Raise ConfigError if `confirm` is swept: it belongs to the sweep, not to a job."""
    if wanted and "confirm" in keys:
        raise ConfigError("confirm: cannot be swept; give one number for the sweep, such as confirm=5")


def confirm(wanted: int, folder: Path, overrides: Callable[[int], Sequence[str]], launch: Launch) -> None:
    """Launch the jobs that confirm the sweep in `folder`; `overrides` gives a job's overrides by its number.

    Raises what a job raised.
    """
    from kdsweep.analysis.leaderboard import best_job, leaderboard
    from kdsweep.analysis.recipes import seed_of
    from kdsweep.results.record import Record

    sweep, results = SweepInfo.load(folder), JobResult.load_all(folder)
    rows, tuned = leaderboard(Record(sweep, results)), bool(sweep.config.get("tune"))
    chosen = _best_of_each_method(rows) if tuned else _best_distilled(rows)
    if not chosen:
        print(f"confirm={wanted}: no distilled student has finished, so there is nothing to confirm")
        return
    used = {seed_of(result) for result in results}
    fresh = list(itertools.islice((seed for seed in itertools.count() if seed not in used), wanted))
    names = "; ".join(row.label for row in chosen)
    print(f"\nconfirm: {names}, and the student alone, with seeds {', '.join(map(str, fresh))}", flush=True)
    jobs = [
        [*without_seed(overrides(best.number)), f"seed={seed}", "baseline=true"]
        for row in chosen
        if (best := best_job(row))  # a sweep that confirms has validation images
        for seed in fresh
    ]
    first = max(result.number for result in results) + 1
    replace(sweep, confirm_from=first, jobs=len(jobs) if tuned else sweep.jobs).save(folder)
    for each in launch(jobs, first):
        _ = each.return_value  # raises what the job raised


def _best_distilled(rows: "Sequence[Row]") -> "list[Row]":
    """The best distilled recipe by validation, on each data set."""
    chosen: dict[str, Row] = {}
    for row in rows:
        if row.recipe.taught:
            chosen.setdefault(row.dataset, row)
    return list(chosen.values())


def _best_of_each_method(rows: "Sequence[Row]") -> "list[Row]":
    """Each method's best trial by validation, and its published defaults, on each data set."""
    chosen: dict[tuple[str, Any, bool], Row] = {}
    for row in rows:
        method, published = row.values.get(METHOD), not row.values.keys() - {METHOD}
        chosen.setdefault((row.dataset, method, False), row)
        if published:
            chosen[row.dataset, method, True] = row
    return list({id(row): row for row in chosen.values()}.values())


def without_seed(overrides: Sequence[str]) -> list[str]:
    """A job's overrides without those that a confirming job sets itself."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return [str(each.input_line) for each in parsed if key_of(each) not in ("seed", "baseline")]
