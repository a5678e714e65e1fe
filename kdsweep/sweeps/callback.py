"""A sweep as a whole: it checks every job before the first one trains, holds the MLflow parent run, and
writes the summary.

Hydra's sweeper and launcher run the jobs; this is the callback around them.
"""

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from filelock import FileLock
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kdsweep.errors import Stopped, explain, wants_traceback
from kdsweep.results.record import Record
from kdsweep.results.result import OPTIMUM, SWEEP, JobResult, PlannedJob, SweepInfo
from kdsweep.stages.companions import Companions
from kdsweep.sweeps.checks import (
    MOST_PLANNED,
    check_database,
    check_hydra,
    check_job_alone,
    check_jobs,
    check_number,
    check_sweeper,
    check_sweeps,
    config_alone,
    refuse_chdir,
    refuse_disturbed_objective,
    refuse_unused,
)
from kdsweep.sweeps.confirm import check_confirm
from kdsweep.sweeps.folders import refuse_results_below, refuse_shared_folders, take_folder
from kdsweep.sweeps.launchers.base import check_launcher, jobs_at_once, shares_store
from kdsweep.sweeps.overrides import combinations, count, key_of, read_overrides, swept_values
from kdsweep.sweeps.together import leave_companions
from kdsweep.sweeps.tune import check_tune, drawn_keys, with_trials
from kdsweep.system.terminal import say
from kdsweep.tracking.database import begin_database

if TYPE_CHECKING:
    from kdsweep.config import Config
    from kdsweep.stages.prepare import Job
    from kdsweep.tracking import Run

JOBS_CHECKED = 500  # of the combinations of a larger sweep: each choice, with the first of the others


class SweepCallback(Callback):
    def __init__(self) -> None:
        self.run: Run | None = None
        self.folder: FileLock | None = None  # held while the sweep or job runs

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        return type(self), ()  # launchers send it to workers, which must not touch the parent run

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        with _raised(config):
            _announce("the sweep", config)
            self._start(config)

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check one job alone, before Hydra makes its folder."""
        with _raised(config):
            _announce("the job", config)
            check_job_alone(config)
            alone = config_alone(config)
            refuse_unused(config, [alone])
            if alone.plan:
                job = check_jobs(config, [list(config.hydra.overrides.task)])[0]
                job = replace(job, config=job.config.alone())
                _show_plan([job], [()], [], f"one job: {_subject(job.config)}", 1)
                raise SystemExit(0)
            check_database(alone.tracking.uri)
            self.folder = take_folder(config, "hydra.run.dir")
            refuse_results_below(Path(config.hydra.run.dir))

    def on_run_end(self, config: DictConfig, **kwargs: Any) -> None:
        if self.folder:
            self.folder.release()

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        try:
            if self.run:
                # only this shows that the sweep itself was interrupted or refused: no job's file does
                self._end(self.run, config, sys.exc_info()[1])
        except Exception as error:  # as in _raised
            if self.run:
                self.run.end("FAILED", explain(error))
            raise Stopped(error, wants_traceback(config)) from None
        finally:
            Companions.forget(Path(config.hydra.sweep.dir))
            if self.folder:
                self.folder.release()

    def _start(self, config: DictConfig) -> None:
        refuse_chdir(config)
        check_hydra(config)
        check_launcher(config)
        overrides = read_overrides(config)
        keys = [key_of(override) for override in overrides if override.is_sweep_override()]
        grid = "n_trials" not in config.hydra.sweeper
        check_sweeps(overrides, grid)
        every = prod(map(count, overrides))
        if grid:
            check_number(every, bool(config.get("plan")))
        check_tune(config, keys)
        # turns and passes need every job's stages
        needed = config.get("plan") or config.get("tune") or not shares_store(config)
        whole = grid and (needed or every <= MOST_PLANNED)
        jobs = combinations(overrides, every if whole else JOBS_CHECKED)
        if config.get("tune"):
            jobs = with_trials(config, jobs)
            keys, every = drawn_keys(jobs, keys), len(jobs)
        prepared = check_jobs(config, jobs)
        refuse_unused(config, [job.config for job in prepared])
        first = prepared[0].config
        refuse_disturbed_objective(config, first)
        trials = check_sweeper(config)
        check_confirm(first.confirm, keys)
        refuse_shared_folders(config, jobs, trials)
        jobs_count = _count(every if trials is None else trials, keys)
        if first.plan:
            all_known = not any(each.is_interval_sweep() for each in overrides) and every == len(jobs)
            chosen = None if trials is None or (all_known and every <= trials) else trials
            title, at_once = f"{jobs_count}: {_subject(first)}", jobs_at_once(config)
            _show_plan(prepared, jobs, keys, title, at_once, chosen, first.confirm, bool(first.tune))
            raise SystemExit(0)

        check_database(first.tracking.uri)
        self.folder, folder = take_folder(config, "hydra.sweep.dir"), Path(config.hydra.sweep.dir)
        SweepInfo.clear(folder)

        from kdsweep.stages.latency import measure
        from kdsweep.store.place import open_store
        from kdsweep.system.terminal import console
        from kdsweep.tracking import ROLE_TAG, SWEEP_TAG, Run, Tracker

        tracker = Tracker(first.tracking, open_store(first.store))
        tracker.close_dead_runs()
        latency = measure(prepared)  # after the database is made: that would disturb it
        spec = " ".join(str(each.input_line) for each in overrides if each.is_sweep_override())
        self.run = Run(tracker, spec or "one job", tags={ROLE_TAG: "sweep", SWEEP_TAG: spec})
        number = every if trials is None else trials
        sweep = SweepInfo.begin(self.run.id, spec, keys, number, first.model_dump(mode="json", by_alias=True))
        planned = planned_jobs(jobs, prepared) if grid and len(jobs) == every else []
        self.run.artifact(replace(sweep, latency=latency, planned=planned).save(folder))
        if planned:
            leave_companions(config, folder, prepared)
        console().print(f"{jobs_count}: {_subject(first)}", markup=False)
        if not keys and trials is None:
            print("nothing is swept: a sweep of one job; with -m a key takes several values: temperature=1,4")

    def _end(self, run: "Run", config: DictConfig, error: BaseException | None) -> None:
        folder = Path(config.hydra.sweep.dir)
        sweep, results = SweepInfo.load(folder), JobResult.load_all(folder)
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
        if not failed or (config.get("search") and not error):  # a search tolerates some failures
            return run.end("FAILED" if error else "FINISHED", str(error) if error else None)
        run.end("FAILED", f"{len(failed)} of {len(results)} jobs failed")
        if isinstance(error, Exception) and (config.get("search") or wants_traceback(config)):
            return None  # Hydra raises it
        raise SystemExit(1)


@contextmanager
def _raised(config: DictConfig) -> Iterator[None]:
    """Take an error past Hydra, which would turn any error of a callback into a warning."""
    try:
        yield
    except Exception as error:
        raise Stopped(error, wants_traceback(config)) from None


def _announce(what: str, config: DictConfig) -> None:
    """Print at once what begins, since imports and checks take seconds; start to make a missing database."""
    begun = None
    with suppress(OmegaConfBaseException, OSError):  # the checks report it
        uri = OmegaConf.select(config, "tracking.uri")
        if isinstance(uri, str) and not config.get("plan"):
            begun = begin_database(uri)
    print(f"checking {what}" + (f", making {begun}" if begun else ""), flush=True)


def _report(run: "Run", record: Record, folder: Path) -> None:
    """Print, write and log the report. The sweep does not depend on it."""
    from kdsweep.analysis.leaderboard import leaderboard
    from kdsweep.report.note import note
    from kdsweep.report.tables import show, write_report
    from kdsweep.system.terminal import relative

    try:
        show(record)
        try:
            for file in write_report([record], folder):
                run.artifact(file)
                print(f"  {relative(file)}")
        finally:
            run.note(note(record, leaderboard(record)), folder / "sweep.png")
    except Exception as error:  # whatever is wrong with a report, its sweep is done
        command = f"kdsweep-report {shlex.quote(str(folder))}"
        say(f"kdsweep: the report is incomplete: {explain(error)}; rebuild it with {command}", sys.stderr)


def log_best(sweep: SweepInfo, results: Sequence[JobResult]) -> None:
    """Log the sweep's best student as an MLflow model, and say where."""
    from kdsweep.config import Tracking
    from kdsweep.export.logged import log_student

    tracking = Tracking.model_validate(sweep.config["tracking"])
    for line in log_student(sweep, results, tracking, sweep.config.get("register")):
        print(f"  {line}")


def planned_jobs(jobs: Sequence[Sequence[str]], prepared: "Sequence[Job]") -> list[PlannedJob]:
    keys = ([stage.key for stage in job.plan.links().values()] for job in prepared)
    return [PlannedJob(list(lines), stages) for lines, stages in zip(jobs, keys, strict=True)]


def _count(jobs: int, keys: Sequence[str]) -> str:
    count = "1 job" if jobs == 1 else f"{jobs} jobs"
    return f"{count} over {', '.join(keys)}" if keys else count


def _subject(first: "Config") -> str:
    """The subject of the jobs, taken from the first."""
    teachers = " + ".join(each.name for each in first.all_teachers.values())
    taught = "alone" if first.method.name == "scratch" else f"taught by {teachers}"
    return f"{first.student.name} {taught}, {first.dataset.name}"


def _show_plan(
    prepared: "Sequence[Job]",
    jobs: Sequence[Sequence[str]],
    keys: Sequence[str],
    title: str,
    at_once: int | None,
    trials: int | None = None,
    confirm: int | None = None,
    tuned: bool = False,
) -> None:
    from kdsweep.stages.show_plan import Planned, show_plan
    from kdsweep.stages.show_taps import show_taps

    planned = [
        Planned(swept_values(lines, keys), job.plan.links())
        for job, lines in zip(prepared, jobs, strict=True)
    ]
    show_plan(planned, title, prepared[0].store, prepared[0].config.hardware, at_once, trials, confirm, tuned)
    show_taps(prepared)
