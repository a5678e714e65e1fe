"""The story of one job: config → plan → obtain, link by link → evaluate → track."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from kdsweep.config import Config, parse
from kdsweep.data import Dataset, load
from kdsweep.display import Display
from kdsweep.errors import ConfigError, explain
from kdsweep.models.build import check, source_digest
from kdsweep.report.summary import cost_table, sweep_line, sweep_table
from kdsweep.result import Result
from kdsweep.stage import Plan, Stage, plan
from kdsweep.store import Store
from kdsweep.sweep import Sweep
from kdsweep.tracking import Run, Tracker
from kdsweep.training.events import Event, StageFinished
from kdsweep.workshop import WEIGHTS, Workshop


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
        tracker = Tracker(config.tracking, job.store)
        if sweep is None:
            tracker.close_dead_runs()
        with Run(tracker, **_identity(config, result, sweep)) as tracked, display:
            result.run_id = tracked.id
            _obtain_and_evaluate(job, tracked, display, result)
            _track(tracked, result, folder)
    except BaseException as error:
        result.error = explain(error)
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
    sources = {role: source for role, model in networks.items() if (source := source_digest(model))}
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
    best = trained.history[trained.best_epoch - 1]
    return {
        "key": stage.key,
        "weights": str(workshop.store.root / stage.key / WEIGHTS),
        "confusion": str(evaluation / "confusion.png"),
        "reused": trained.reused,
        "seconds": trained.seconds,
        "best_epoch": trained.best_epoch,
        "val": {name: value for name, value in best.items() if name.startswith("val/")},
        "test": json.loads((evaluation / "evaluation.json").read_text()),
        "cost": workshop.cost(stage),
    }


def _identity(config: Config, result: Result, sweep: Sweep | None) -> dict[str, Any]:
    """Name, tags and params of the MLflow run: few and short, what one compares by."""
    params: dict[str, Any] = {"dataset": config.dataset.name, "student": config.student.name}
    if config.method.name != "scratch":
        taught = {
            "temperature": config.temperature,
            "alpha": config.alpha,
            "chain_length": config.chain_length,
        }
        params |= {"teacher": config.teacher.name, **taught}
    params |= {"method": config.method.name, "seed": config.seed} | result.swept
    tags = {"mlflow.parentRunId": sweep.run_id} if sweep else {}
    return {
        "name": result.name or f"{config.method.name} {config.student.name}",
        "tags": tags,
        "params": params,
    }


def _track(tracked: Run, result: Result, folder: Path) -> None:
    """The final figures; the student's by their plain names, the others' under their role."""
    for role, network in result.networks.items():
        prefix = "" if role == "student" else f"{role}/"
        for group in ("test", "cost"):
            for name, value in network[group].items():
                if isinstance(value, int | float):
                    tracked.metric(f"{prefix}{group}/{name}", value)
    student = result.networks["student"]
    tracked.tag("kdsweep.stage", student["key"])
    tracked.tag("kdsweep.reused", str(student["reused"]).lower())
    for file in (student["weights"], student["confusion"], folder / ".hydra" / "config.yaml"):
        tracked.artifact(Path(file))
