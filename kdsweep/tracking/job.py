"""A job as an MLflow run: its params, tags, data set and figures."""

import json
import logging
import re
from collections.abc import Iterator

from kdsweep.config import Config
from kdsweep.errors import KdsweepError
from kdsweep.results.names import usual
from kdsweep.results.network import Evaluation
from kdsweep.results.result import JobResult, SweepInfo
from kdsweep.store.store import Store
from kdsweep.tracking.run import CONFIRMS_TAG, NUMBER_TAG, ROLE_TAG, SWEEP_TAG, SWEPT_TAG, USED_TAG, Run
from kdsweep.tracking.tracker import Tracker

log = logging.getLogger(__name__)

MOST_CLASSES = 20  # with a metric each in MLflow; the evaluation has all


def begin_run(config: Config, store: Store, result: JobResult, sweep: SweepInfo | None) -> Run:
    """The job's MLflow run: a few params to compare by, and tags to filter by.

    A job of a sweep continues without MLflow; a job alone needs it.
    """
    compared = usual(result.options)
    params = {key: result.recipe[key] for key in compared if key in result.recipe} | {"seed": config.seed}
    tags = {f"kdsweep.{name}": str(value) for name, value in result.recipe.items() if name not in compared}
    tags |= {ROLE_TAG: "job", "kdsweep.seed": str(config.seed), "kdsweep.recipe": result.recipe_name}
    tags[USED_TAG] = ",".join(result.entries)  # from the start, so that they are not removed meanwhile
    if result.confirms:
        tags[CONFIRMS_TAG] = "true"
    if sweep:
        tags |= {NUMBER_TAG: str(result.number), SWEPT_TAG: json.dumps(result.swept)}
        tags |= {"mlflow.parentRunId": sweep.run_id, SWEEP_TAG: sweep.spec}
    try:
        tracker = Tracker(config.tracking, store)
        if sweep is None:
            tracker.close_dead_runs()
        name = result.name or f"{config.method.name} {config.student.name}"
        run = Run(tracker, name, result.swept | params, tags)
    except KdsweepError as error:
        if sweep is None:
            raise
        log.warning("%s; the job continues without it", error)
        return Run(None)
    run.input(result.dataset, config.dataset.root)
    return run


def log_figures(tracked: Run, result: JobResult) -> None:
    """Log the final figures: the student's under plain names, others' under their role, and all again as one
    metric over the links of the chain, whose step is the link, 0 for the teacher."""
    tracked.ask_again()
    for role, network in result.networks.items():
        prefix = "" if role == "student" else f"{role}/"
        step = result.chain.index(role) if role in result.chain else None
        val = network.val.metrics() if network.val else {}
        figures = {f"best/{name}": value for name, value in val.items()}
        figures |= {f"test/{name}": value for name, value in _of_test(network.test)}
        figures |= {f"cost/{name}": value for name, value in network.cost.known().items()}
        for name, value in figures.items():
            tracked.metric(f"{prefix}{name}", value)
            if step is not None and len(result.chain) > 2:  # with links in between
                tracked.metric(f"chain/{name}", value, step)
    tracked.tag(stage=result.student.key, reused=str(result.student.reused).lower())


def _of_test(evaluation: Evaluation) -> Iterator[tuple[str, float]]:
    """Figures that are numbers, per class too, under names that MLflow accepts."""
    yield from evaluation.numbers()
    if len(evaluation.class_accuracy) <= MOST_CLASSES:
        for name, share in evaluation.class_accuracy.items():
            yield f"class_accuracy/{_metric_name(name)}", share


def _metric_name(text: str) -> str:
    return re.sub(r"[^\w\-. ]", "_", text)
