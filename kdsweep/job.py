"""The story of one job: config → plan → obtain, link by link → evaluate → track."""

import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from kdsweep.config import Config
from kdsweep.parse import parse
from kdsweep.data import Dataset, load
from kdsweep.display import Display
from kdsweep.errors import ConfigError, KdsweepError, explain
from kdsweep.models.build import check
from kdsweep.models.source import source_digest
from kdsweep.report.summary import cost_table, sweep_line, sweep_table
from kdsweep.result import INTERRUPTED, Result, Sweep
from kdsweep.stage import Plan, Stage, plan
from kdsweep.store import Store
from kdsweep.tracking import Run, Tracker
from kdsweep.training.events import Event, StageFinished
from kdsweep.workshop import Workshop

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """A config with its data and the stages it needs; nothing is trained yet."""

    config: Config
    dataset: Dataset
    plan: Plan
    store: Store


def run_job(composed: DictConfig, folder: Path, result: Result, sweep: Sweep | None) -> None:
    """Run the job of a composed config, fill in its result and leave it in `folder`, whatever happens."""
    start = time.perf_counter()
    display = Display(quiet=sweep is not None)
    try:
        config = parse(composed)
        result.seed = config.seed
        job = prepare(config)
        with _begin(job, result, sweep) as tracked, display:
            result.run_id = tracked.id
            _obtain_and_evaluate(job, tracked, display, result)
            _track(tracked, result, folder)
    except BaseException as error:
        result.error = explain(error) if isinstance(error, Exception) else INTERRUPTED
        raise
    finally:
        result.seconds = time.perf_counter() - start
        result.save(folder)
        if sweep:
            display.console.print(sweep_line(result, sweep.jobs), markup=False)
        elif not result.error:
            display.console.print("", sweep_table([result], []), "", cost_table(result), sep="\n")


def prepare(config: Config) -> Job:
    """Load the data and plan the stages. Raises DataError or ConfigError for what cannot be run here."""
    dataset = load(config.dataset)
    networks = {"teacher": config.teacher.model, "student": config.student.model}
    sources = {role: source_digest(model) for role, model in networks.items()}
    job = Job(config, dataset, plan(config, dataset.fingerprint, sources), Store(config.store))
    _check_machine_and_networks(job)
    return job


def _check_machine_and_networks(job: Job) -> None:
    """What the store has did fit; other networks are tried on two empty images before anything is trained."""
    untrained = {role: stage for role, stage in job.plan.links().items() if not job.store.find(stage.key)}
    if not untrained:
        return
    from kdsweep.training.device import resolve

    resolve(job.config.hardware)
    problems = {}
    for role, stage in untrained.items():
        role = "student" if role == "scratch" else role
        try:
            check(stage.model, len(job.dataset.classes), job.dataset.shape)
        except ConfigError as error:
            problems[role] = f"{role}.{error}"
    if problems:
        raise ConfigError("\n".join(problems.values()))


def _obtain_and_evaluate(job: Job, tracked: Run, display: Display, result: Result) -> None:
    """Every stage from the store or by training; then the figures of each on the test split."""

    def emit(event: Event) -> None:
        display.show(event)
        tracked.show(event)

    workshop = Workshop(job.store, job.dataset, job.config.hardware, emit)
    trained = {role: workshop.obtain(role, stage) for role, stage in job.plan.links().items()}
    for role, stage in job.plan.links().items():
        teacher = job.plan.teacher if role != "teacher" else None
        result.networks[role] = _figures(workshop, stage, teacher, trained[role])
    result.objective = result.val()[job.config.objective]


def _figures(
    workshop: Workshop, stage: Stage, teacher: Stage | None, trained: StageFinished
) -> dict[str, Any]:
    evaluation = workshop.evaluation(stage, teacher)
    weights = workshop.weights(stage)
    best = trained.history[trained.best_epoch - 1]
    return {
        "key": stage.key,
        "weights": str(weights),
        "confusion": str(evaluation / "confusion.png"),
        "reused": trained.reused,
        "seconds": trained.seconds,
        "best_epoch": trained.best_epoch,
        "val": {name: value for name, value in best.items() if name.startswith("val/")},
        "test": json.loads((evaluation / "evaluation.json").read_text()),
        "cost": {**workshop.cost(stage), "bytes": weights.stat().st_size},
    }


def _begin(job: Job, result: Result, sweep: Sweep | None) -> Run:
    """The job's MLflow run, its params few and short: what one compares by.

    A sweep that began with MLflow goes on without it; a job that stands alone needs it.
    """
    config = job.config
    params: dict[str, Any] = {"dataset": config.dataset.name, "student": config.student.name}
    if config.method.name != "scratch":
        taught = {
            "temperature": config.temperature,
            "alpha": config.alpha,
            "chain_length": config.chain_length,
        }
        params |= {"teacher": config.teacher.name, **taught}
    params |= {"method": config.method.name, "seed": config.seed}
    if sweep is None:
        tracker = Tracker(config.tracking, job.store)
        tracker.close_dead_runs()
        return Run(tracker, f"{config.method.name} {config.student.name}", params)
    try:
        tracker = Tracker(config.tracking, job.store)
        return Run(tracker, result.name, result.swept | params, {"mlflow.parentRunId": sweep.run_id})
    except KdsweepError as error:
        log.warning("%s; the job goes on without it", error)
        return Run(None)


def _track(tracked: Run, result: Result, folder: Path) -> None:
    """The final figures; the student's by their plain names, the others' under their role."""
    tracked.ask_again()
    for role, network in result.networks.items():
        prefix = "" if role == "student" else f"{role}/"
        for group in ("test", "cost"):
            for name, value in network[group].items():
                if isinstance(value, int | float):
                    tracked.metric(f"{prefix}{group}/{name}", value)
    student = result.networks["student"]
    tracked.tag("kdsweep.stage", student["key"])
    tracked.tag("kdsweep.reused", str(student["reused"]).lower())
    for file in (Path(student["weights"]), Path(student["confusion"]), folder / ".hydra" / "config.yaml"):
        if file.exists():  # Hydra may be told to keep no config
            tracked.artifact(file)
