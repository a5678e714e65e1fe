"""The story of one job: config → plan → obtain, link by link → evaluate → track."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from omegaconf import DictConfig

from kdsweep.config import Config
from kdsweep.config.parse import parse
from kdsweep.errors import Pruned, explain
from kdsweep.networks.weights import WEIGHTS
from kdsweep.report.live import Display
from kdsweep.report.pictures.confusion import draw_confusion
from kdsweep.report.tables import costs, draw_inside, sweep_table, unlabeled_line
from kdsweep.results.describe import describe
from kdsweep.results.events import Emit, Event
from kdsweep.results.line import sweep_line
from kdsweep.results.result import INTERRUPTED, PRUNED, JobResult, Latency, SweepInfo
from kdsweep.stage import Panel, digest
from kdsweep.stages.figures import priced
from kdsweep.stages.latency import measure, measure_when_quiet
from kdsweep.stages.maker import Maker
from kdsweep.stages.prepare import Job, prepare
from kdsweep.tracking import Run, begin_run, log_figures


def run_job(
    composed: DictConfig,
    folder: Path,
    result: JobResult,
    sweep: SweepInfo | None,
    watch: Emit = lambda event: None,
) -> None:
    """Run the job of a composed config, fill in its result and leave it in `folder`, whatever happens.

    `watch` gets the training's events, and ends the job by raising Pruned.
    """
    start = time.perf_counter()
    display = Display(quiet=sweep is not None)
    tracked = Run(None)
    try:
        config = parse(composed) if sweep else parse(composed).alone()
        describe(result, config)
        job = prepare(config)
        result.entries, result.dataset = job.entries, job.dataset_info
        tracked = begin_run(config, job.store, result, sweep)
        measured = sweep.latency if sweep else measure([job])  # after the database is made: that is work
        if sweep is None:
            alone = SweepInfo.begin(tracked.id, "", [], 1, config.model_dump(mode="json", by_alias=True))
            tracked.artifact(replace(alone, latency=measured).save(folder))
        with tracked, display:
            result.run_id = tracked.id
            _obtain_and_evaluate(job, tracked, [display.show, tracked.show, watch], result, measured, folder)
            pictures = [] if sweep else draw_inside(result, folder)
            log_figures(tracked, result)
            _log_files(job, tracked, result, [*pictures, folder / ".hydra" / "config.yaml"])
            model = [] if sweep else _log_model(config, result)
    except BaseException as error:  # Ctrl-C too: the result says how the job ended
        result.error = _reason(error)
        raise
    finally:
        result.seconds = time.perf_counter() - start
        tracked.artifact(result.save(folder))
        if sweep:
            display.console.print(sweep_line(result, sweep.jobs), markup=False)
        elif not result.error:
            shown = [sweep_table([result], []), *unlabeled_line([result]), "", *costs(result, measured)]
            display.console.print("", *shown, sep="\n")
            display.console.print(*("", *model) if model else (), sep="\n  ")


def _reason(error: BaseException) -> str:
    if isinstance(error, Pruned):
        return PRUNED
    return explain(error) if isinstance(error, Exception) else INTERRUPTED


def _obtain_and_evaluate(
    job: Job,
    tracked: Run,
    watchers: Sequence[Emit],
    result: JobResult,
    measured: Latency | None,
    folder: Path,
) -> None:
    """Take every stage from the store or train it; then compute its figures on the test split."""

    def emit(event: Event) -> None:
        for watch in watchers:
            watch(event)

    hardware = job.config.hardware
    remote = None if hardware.shared_store else tracked
    maker = Maker(job.store, job.dataset, hardware, job.initial, emit, remote, folder)
    links, teachers, student = job.plan.links(), job.plan.teachers, job.plan.chain["student"]
    # the baseline's agreement with the student's teachers shows what these add to the student
    alone = {"scratch": teachers["student"]} if teachers else {}
    results = maker.obtain(links, {**teachers, **alone})
    ms = measured.ms if measured else {}
    if "cost/latency_ms" in job.config.objective and digest(priced(student, job.dataset)) not in ms:
        ms = measure_when_quiet(job)
    for role, network in results.items():
        network.cost.latency_ms = ms.get(digest(priced(links[role], job.dataset)))
    if job.plan.ensemble:
        first = Panel({role: job.plan.chain[role] for role in job.config.all_teachers})
        if ensemble := maker.ensemble(job.plan.ensemble, first, results):
            results["ensemble"] = ensemble
    result.networks, result.chain = results, [role for role in job.plan.chain if role in results]
    result.objective = _objective(job.config.objective, result)


def _objective(wanted: str | list[str], result: JobResult) -> float | list[float] | None:
    """The number for the sweeper; None if it is a validation figure and no image was held back for those."""
    numbers = {f"cost/{name}": value for name, value in result.student.cost.known().items()}
    numbers |= result.val.metrics() if result.val else {}
    if isinstance(wanted, str):
        return numbers.get(wanted)
    return [numbers[name] for name in wanted] if numbers.keys() >= set(wanted) else None


def _log_files(job: Job, tracked: Run, result: JobResult, files: Sequence[Path]) -> None:
    """Log the student's weights, each network's confusion matrix, and those of `files` that exist."""
    if not tracked.id:
        return
    trained = job.store.find(result.student.key)
    for file in ([trained / WEIGHTS] if trained else []) + list(files):
        if file.exists():  # Hydra may be asked to keep no config
            tracked.artifact(file)
    with TemporaryDirectory(prefix="kdsweep-") as folder:
        picture = Path(folder) / "confusion.png"
        for role, network in result.networks.items():
            draw_confusion(network.test.confusion, job.dataset.classes, picture)
            tracked.artifact(picture, None if role == "student" else role)


def _log_model(config: Config, result: JobResult) -> list[str]:
    """Log the student of a job alone as an MLflow model, and say where; a sweep logs its best at its end."""
    from kdsweep.export.logged import log_student

    return log_student(SweepInfo(result.run_id or "", [], 1), [result], config.tracking, config.register_as)
