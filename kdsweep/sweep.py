"""A sweep as a whole: every job checked before the first one trains, its MLflow parent run, its summary.

Hydra's sweeper and launcher do the sweeping; this is the callback around them. Hydra imports this module at
every start: keep it light.
"""

import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from hydra._internal.core_plugins.basic_sweeper import BasicSweeperConf
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kdsweep.compose import QuickSweeper, compose
from kdsweep.confirm import check_confirm, confirm
from kdsweep.console import say
from kdsweep.database import begin_database
from kdsweep.errors import ConfigError, KdsweepError, explain, tell, wants_traceback
from kdsweep.launchers import check_launcher, jobs_at_once, refuse_launcher
from kdsweep.overrides import choices, combinations, key_of, read_overrides, swept_values
from kdsweep.records import Record
from kdsweep.result import OPTIMUM, SWEEP, Result, Sweep

if TYPE_CHECKING:
    from kdsweep.config import Config
    from kdsweep.job import Job
    from kdsweep.tracking import Run
    from kdsweep.training.events import Event

JOBS_CHECKED = 500  # of the product of all choices; beyond, every choice is checked with the first others


def refuse_chdir(hydra: Any) -> None:
    """Raise ConfigError if jobs would each begin in a folder of their own, where they share nothing."""
    if hydra.job.chdir:
        raise ConfigError(
            "hydra.job.chdir=true: must be false, paths are relative to where kdsweep is started"
        )


def refuse_confirm(config: DictConfig) -> None:
    """Raise ConfigError if a job alone is told to confirm: there is nothing chosen."""
    if wanted := config.get("confirm"):
        raise ConfigError(f"confirm={wanted}: needs -m, as in kdsweep -m temperature=1,4 confirm={wanted}")


def refuse_search(hydra: Any) -> None:
    """Raise ConfigError if a job alone is told to search."""
    chosen = hydra.runtime.choices.get("search")
    if chosen not in (None, "grid"):
        raise ConfigError(f"search={chosen}: needs -m, as in kdsweep -m search={chosen}")


def run_job_of_sweep(
    composed: DictConfig,
    watch: Callable[["Event"], None] = lambda event: None,
    ended: Callable[[Result], None] = lambda result: None,
) -> float | list[float] | None:
    """Run the job that Hydra has set up; what its objective comes to.

    `watch` sees what the training reports, `ended` what is left, however the job ended.
    """
    from kdsweep.job import run_job

    context = HydraConfig.get()
    sweep = Sweep.load(Path(context.sweep.dir))
    result = sweep.result(context.job.num, swept_values(context.overrides.task, sweep.keys))
    try:
        run_job(composed, Path(context.runtime.output_dir), result, sweep, watch)
    finally:
        ended(result)
    return result.objective


class GridSweeper(QuickSweeper):
    """Hydra's own, but that it composes every job before the first runs: SweepCallback has checked them."""

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Nothing is left to be found."""

    def sweep(self, arguments: list[str]) -> Any:
        returns = super().sweep(arguments)
        assert self.config is not None and self.overrides is not None and self.launcher is not None
        if wanted := self.config.get("confirm"):
            jobs = [job for batch in self.overrides for job in batch]
            confirm(wanted, Path(self.config.hydra.sweep.dir), jobs.__getitem__, self.launcher.launch)
        return returns


@dataclass
class GridSweeperConf(BasicSweeperConf):
    _target_: str = "kdsweep.sweep.GridSweeper"


ConfigStore.instance().store(
    group="hydra/sweeper", name="kdsweep_grid", node=GridSweeperConf, provider="kdsweep"
)


class SweepCallback(Callback):
    def __init__(self) -> None:
        self.run: Run | None = None

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        return type(self), ()  # launchers send it to their workers, which have no part in the parent run

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        try:
            _say_what_begins("the sweep", config)
            self._start(config)
        except Exception as error:  # which Hydra would turn into a warning
            tell(error, config.get("debug"))
            raise SystemExit(1) from None

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Of one job alone, before Hydra makes its folder."""
        _say_what_begins("the job", config)
        if not config.get("plan"):
            return
        try:
            refuse_chdir(config.hydra)
            refuse_search(config.hydra)
            refuse_confirm(config)
            refuse_launcher(config.hydra)
            job = _check(config, [list(config.hydra.overrides.task)])[0]
            alone = replace(job, config=job.config.alone())
            _show_plan([alone], [], [], f"one job: {_subject(job.config)}", 1)
        except Exception as error:
            tell(error, config.get("debug"))
            raise SystemExit(1) from None
        raise SystemExit(0)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        if self.run is None:
            return
        try:
            self._end(self.run, config, sys.exc_info()[1])
        except Exception as error:
            self.run.end("FAILED", explain(error))
            tell(error, config.debug)
            raise SystemExit(1) from None

    def _start(self, config: DictConfig) -> None:
        refuse_chdir(config.hydra)
        check_launcher(config)
        overrides = read_overrides(config)
        keys = [key_of(override) for override in overrides if override.is_sweep_override()]
        every = prod(len(choices(override)) for override in overrides)
        limit = every if config.get("plan") and "n_trials" not in config.hydra.sweeper else JOBS_CHECKED
        jobs = combinations(overrides, limit)
        prepared = _check(config, jobs)
        _refuse_disturbed_objective(config, prepared[0].config)
        trials = _check_sweeper(config)
        first = prepared[0].config
        check_confirm(first.confirm, keys)
        count = _count(every if trials is None else trials, keys)
        if first.plan:
            all_known = not any(each.is_interval_sweep() for each in overrides) and every == len(jobs)
            chosen = None if trials is None or (all_known and every <= trials) else trials
            title, at_once = f"{count}: {_subject(first)}", jobs_at_once(config)
            _show_plan(prepared, jobs, overrides, title, at_once, chosen, first.confirm)
            raise SystemExit(0)

        folder = Path(config.hydra.sweep.dir)
        Sweep.clear(folder)

        from kdsweep.display import console
        from kdsweep.job import measure
        from kdsweep.store import open_store
        from kdsweep.tracking import ROLE_TAG, SWEEP_TAG, Run, Tracker

        tracker = Tracker(first.tracking, open_store(first.store))
        tracker.close_dead_runs()
        latency = measure(prepared)  # once the database is made, which would disturb it
        spec = " ".join(str(each.input_line) for each in overrides if each.is_sweep_override())
        self.run = Run(tracker, spec or "one job", tags={ROLE_TAG: "sweep", SWEEP_TAG: spec})
        number = every if trials is None else trials
        sweep = Sweep.begin(self.run.id, spec, keys, number, first.model_dump(mode="json", by_alias=True))
        self.run.artifact(replace(sweep, latency=latency).save(folder))
        console().print(f"{count}: {_subject(first)}", markup=False)

    def _end(self, run: "Run", config: DictConfig, error: BaseException | None) -> None:
        folder = Path(config.hydra.sweep.dir)
        sweep, results = Sweep.load(folder), Result.load_all(folder)
        if sweep.earlier:
            run.artifact(folder / SWEEP)
        _report(run, Record(sweep, results), folder)
        for file in sorted([*folder.glob("search/*"), *folder.glob("experiment/*")]):
            run.artifact(file, file.parent.name)
        if (folder / OPTIMUM).exists():
            run.artifact(folder / OPTIMUM)
        run.close_dead_siblings()
        if isinstance(error, KeyboardInterrupt):
            return run.end("KILLED")
        log_best(sweep, results)
        failed = [result for result in results if result.failed and result.run_id not in sweep.earlier]
        for result in failed:
            say(f"job {result.number} ({result.name}) failed: {result.error}", sys.stderr)
        if not failed or (config.get("search") and not error):  # a search goes on without some
            return run.end("FAILED" if error else "FINISHED", str(error) if error else None)
        run.end("FAILED", f"{len(failed)} of {len(results)} jobs failed")
        if isinstance(error, Exception) and (config.get("search") or wants_traceback(config.debug)):
            return None  # Hydra raises it
        raise SystemExit(1)


def _say_what_begins(what: str, config: DictConfig) -> None:
    """At once, for imports and checks take seconds. A database that is not there takes more: it begins."""
    begun = None
    with suppress(OmegaConfBaseException, OSError):  # which the checks tell
        uri = OmegaConf.select(config, "tracking.uri")
        begun = begin_database(uri) if isinstance(uri, str) and not config.get("plan") else None
    print(f"checking {what}" + (f", making {begun}" if begun else ""), flush=True)


def _report(run: "Run", record: Record, folder: Path) -> None:
    """Show what came of the sweep, write it, log it. The sweep does not depend on it."""
    from kdsweep.display import relative
    from kdsweep.report.leaderboard import leaderboard
    from kdsweep.report.note import note
    from kdsweep.report.summary import show, write_report

    try:
        show(record)
        try:
            for file in write_report([record], folder):
                run.artifact(file)
                print(f"  {relative(file)}")
        finally:
            run.note(note(record, leaderboard(record)), folder / "sweep.png")
    except Exception as error:
        told = f"the report is not whole: {explain(error)}"
        say(f"kdsweep: {told}; kdsweep-report {shlex.quote(str(folder))} makes it again", sys.stderr)


def log_best(sweep: Sweep, results: Sequence[Result]) -> None:
    """Log the sweep's best student as an MLflow model, and say where."""
    from kdsweep.config import Tracking
    from kdsweep.export.logged import log_student

    tracking = Tracking.model_validate(sweep.config["tracking"])
    for line in log_student(sweep, results, tracking, sweep.config.get("register")):
        print(f"  {line}")


def _refuse_disturbed_objective(config: DictConfig, first: "Config") -> None:
    """Raise ConfigError if jobs would measure, for the sweeper, how they disturb each other."""
    if "cost/latency_ms" in first.objective and (at_once := jobs_at_once(config)) != 1:
        raise ConfigError(
            f"objective=cost/latency_ms: it is measured, and {at_once or 'several'} jobs at a time disturb "
            "each other; take hardware=cpu, which runs one, or cost/flops"
        )


def _count(jobs: int, keys: Sequence[str]) -> str:
    count = "1 job" if jobs == 1 else f"{jobs} jobs"
    return f"{count} over {', '.join(keys)}" if keys else count


def _subject(first: "Config") -> str:
    """What the jobs are about, told of the first."""
    taught = "alone" if first.method.name == "scratch" else f"taught by {first.teacher.name}"
    return f"{first.student.name} {taught}, {first.dataset.name}"


def _show_plan(
    prepared: "Sequence[Job]",
    jobs: Sequence[Sequence[str]],
    overrides: Sequence[Override],
    title: str,
    at_once: int | None,
    trials: int | None = None,
    confirm: int | None = None,
) -> None:
    from kdsweep.report.planned import Planned, show_plan

    keys = [key_of(each) for each in overrides if each.is_sweep_override()]
    planned = [
        Planned(swept_values(lines, keys), job.plan.links())
        for job, lines in zip(prepared, jobs or [()], strict=True)
    ]
    show_plan(planned, title, prepared[0].store, prepared[0].config.hardware, at_once, trials, confirm)


def _check_sweeper(config: DictConfig) -> int | None:
    """How many trials the sweeper will run, None if all jobs; ConfigError if it can tell that it cannot."""
    plugin = Plugins.instance().class_name_to_class.get(config.hydra.sweeper._target_)
    check: Callable[[DictConfig], int] | None = getattr(plugin, "check", None)
    return check(config) if check else OmegaConf.select(config, "hydra.sweeper.n_trials")


def _check(config: DictConfig, jobs: Sequence[Sequence[str]]) -> "list[Job]":
    """Every job, prepared. Raises ConfigError with what is wrong with any job, each thing once."""
    from kdsweep.job import prepare
    from kdsweep.parse import parse

    problems: list[str] = []
    prepared = []
    for composed in compose(config, jobs):
        try:
            prepared.append(prepare(parse(composed)))
        except KdsweepError as error:
            problems += str(error).splitlines()
    if problems:
        raise ConfigError("\n".join(["nothing was started", *dict.fromkeys(problems)]))
    return prepared
