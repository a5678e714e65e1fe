"""The story of one job: config → plan → obtain, link by link → evaluate → track."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from omegaconf import DictConfig

from kdsweep.config import Config, ImageDataset, Network
from kdsweep.config.code import default_options, source_digest
from kdsweep.config.parse import parse
from kdsweep.data import Dataset, load
from kdsweep.errors import ConfigError, KdsweepError, Pruned, explain, without_passwords
from kdsweep.networks.build import check, parameter_count
from kdsweep.networks.weights import WEIGHTS, weights_digest
from kdsweep.report.live import Display
from kdsweep.report.pictures.confusion import draw_confusion
from kdsweep.report.tables import busy, costs, draw_inside, sweep_line, sweep_table
from kdsweep.results.dataset import DatasetInfo
from kdsweep.results.events import Emit, Event
from kdsweep.results.names import CHAIN_LENGTH, options_of
from kdsweep.results.result import INTERRUPTED, PRUNED, JobResult, Latency, SweepInfo
from kdsweep.stage import digest
from kdsweep.stages.begin import locate
from kdsweep.stages.chains import ALONE, Known, Plan, plan
from kdsweep.stages.classes import for_classes
from kdsweep.stages.figures import priced
from kdsweep.stages.latency import latency
from kdsweep.stages.maker import Maker
from kdsweep.store.store import Store, open_store
from kdsweep.tracking import Run, begin_run, download, log_figures
from kdsweep.training.device import resolve, uses_cuda

ATTEMPTS, SECONDS_BETWEEN_ATTEMPTS = 5, 2.0  # to measure what an objective needs


@dataclass(frozen=True)
class Job:
    """A config with its data and the stages it needs; nothing is trained yet."""

    config: Config
    dataset: Dataset
    plan: Plan
    store: Store
    initial: Mapping[str, Path]  # files of the weights that networks begin with, by digest

    @property
    def entries(self) -> list[str]:
        """The keys of what the job needs of the store: its stages, those they begin with, decoded images."""
        stages = dict.fromkeys(stage.key for stage in self.plan.links().values())
        begun = [file.parent.name for file in self.initial.values() if file.parent.parent == self.store.root]
        return list(dict.fromkeys([*stages, *begun, *self.dataset.entries]))


def run_job(
    composed: DictConfig,
    folder: Path,
    result: JobResult,
    sweep: SweepInfo | None,
    watch: Emit = lambda event: None,
) -> None:
    """Run the job of a composed config, fill in its result and leave it in `folder`, whatever happens.

    `watch` sees what the training reports, and ends the job by raising Pruned.
    """
    start = time.perf_counter()
    display = Display(quiet=sweep is not None)
    tracked = Run(None)
    try:
        config = parse(composed) if sweep else parse(composed).alone()
        describe(result, config)
        job = prepare(config)
        result.entries, result.dataset = job.entries, _described(job)
        tracked = begin_run(config, job.store, result, sweep)
        measured = sweep.latency if sweep else measure([job])  # once the database is made
        if sweep is None:
            alone = SweepInfo.begin(tracked.id, "", [], 1, config.model_dump(mode="json", by_alias=True))
            tracked.artifact(replace(alone, latency=measured).save(folder))
        with tracked, display:
            result.run_id = tracked.id
            _obtain_and_evaluate(job, tracked, [display.show, tracked.show, watch], result, measured)
            pictures = [] if sweep else draw_inside(result, folder)
            log_figures(tracked, result)
            _log_files(job, tracked, result, [*pictures, folder / ".hydra" / "config.yaml"])
            model = [] if sweep else _log_model(config, result)
    except BaseException as error:
        result.error = _reason(error)
        raise
    finally:
        result.seconds = time.perf_counter() - start
        tracked.artifact(result.save(folder))
        if sweep:
            display.console.print(sweep_line(result, sweep.jobs), markup=False)
        elif not result.error:
            display.console.print("", sweep_table([result], []), "", *costs(result, measured), sep="\n")
            display.console.print(*("", *model) if model else (), sep="\n  ")


def prepare(config: Config) -> Job:
    """Load the data and plan the stages. Raises DataError or ConfigError for what cannot be run here."""
    store = open_store(config.store, config.store_budget)
    dataset = load(config.dataset, store)
    initial: dict[str, Path] = {}

    def initial_digest(network: Network) -> str | None:
        if network.weights is None:
            return None
        file = locate(network.weights, store, lambda uri: download(config.tracking, uri))
        file = for_classes(network.weights, file, network.model, dataset.classes, dataset.shape, store)
        initial[weights_digest(file)] = file
        return weights_digest(file)

    def parameters(network: Network) -> int:
        try:
            return parameter_count(network.model, len(dataset.classes), dataset.shape)
        except ConfigError as error:
            raise ConfigError(f"{network.name}: {error}") from error

    known = Known(
        source=lambda network: source_digest(network.model),
        initial=initial_digest,
        parameters=parameters,
        defaults=lambda network: default_options(network.model),
        on_gpu=lambda: uses_cuda(config.hardware),
        draws_val=dataset.draws_val,
        images=dataset.available,
        trained_on=len(dataset.train.labels),
    )
    job = Job(config, dataset, plan(config, dataset.fingerprint, known), store, initial)
    _check_machine_and_networks(job)
    return job


def measure(jobs: Sequence[Job]) -> Latency | None:
    """The latency of all networks of jobs that have not begun, by `latency.py`."""
    networks, models = {}, {}
    for job in jobs:
        for stage in job.plan.links().values():
            described = priced(stage, job.dataset)
            networks[digest(described)], models[digest(described)] = described, stage.model
    return latency(networks, models, jobs[0].store)


def _check_machine_and_networks(job: Job) -> None:
    """What the store has did fit; other networks are tried on two empty images before anything is trained."""
    untrained = {role: stage for role, stage in job.plan.links().items() if not job.store.find(stage.key)}
    if not untrained:
        return
    if not job.config.plan:
        job.store.check_budget()
    if not job.config.hardware.elsewhere:
        resolve(job.config.hardware)
    from kdsweep.training.recipe_check import recipe_problems  # which imports torch

    recipes = {role: stage.training for role, stage in untrained.items() if stage.training.total_epochs}
    problems = recipe_problems(recipes)
    for role, stage in untrained.items():
        role = "student" if role == "scratch" else role
        weights = job.initial[stage.initial] if stage.initial else None
        try:
            trained = stage.training.total_epochs > 0
            check(stage.model, len(job.dataset.classes), job.dataset.shape, weights, trained)
            if stage.parents or stage.objective != ALONE:
                from kdsweep.training.try_terms import check_terms

                check_terms(stage, len(job.dataset.classes), job.dataset.shape)
        except ConfigError as error:
            problems[role] = str(error) if str(error).startswith("method.") else f"{role}.{error}"
    if problems:
        raise ConfigError("\n".join(problems.values()))


def _reason(error: BaseException) -> str:
    if isinstance(error, Pruned):
        return PRUNED
    return explain(error) if isinstance(error, Exception) else INTERRUPTED


def _obtain_and_evaluate(
    job: Job, tracked: Run, watchers: Sequence[Emit], result: JobResult, measured: Latency | None
) -> None:
    """Every stage from the store or by training; then the figures of each on the test split."""

    def emit(event: Event) -> None:
        for watch in watchers:
            watch(event)

    hardware = job.config.hardware
    remote = None if hardware.shared_store else tracked
    maker = Maker(job.store, job.dataset, hardware, job.initial, emit, remote)
    links, teachers, student = job.plan.links(), job.plan.teachers, job.plan.chain["student"]
    # the student alone is compared with those that teach the student: what they add shows
    results = maker.obtain(links, {**teachers, "scratch": teachers.get("student", ())})
    ms = measured.ms if measured else {}
    if "cost/latency_ms" in job.config.objective and digest(priced(student, job.dataset)) not in ms:
        ms = _insist(job)
    for role, stage in links.items():
        results[role].cost.latency_ms = ms.get(digest(priced(stage, job.dataset)))
    if members := job.plan.ensemble:
        results["ensemble"] = maker.ensemble(members, [job.plan.chain["teacher"]], results)
    result.networks, result.chain = results, list(job.plan.chain)
    result.objective = _objective(result, job.config.objective)


def _insist(job: Job) -> dict[str, float]:
    """The latencies of a job's networks, which its objective needs: measured once the machine is quiet."""
    for _ in range(ATTEMPTS):
        taken = measure([job])
        if taken and taken.ms:
            return taken.ms
        time.sleep(SECONDS_BETWEEN_ATTEMPTS)
    raise KdsweepError(
        f"objective=cost/latency_ms: {busy(taken)}; run it on a quiet machine, or take cost/flops"
    )


def _objective(result: JobResult, wanted: str | Sequence[str]) -> float | list[float]:
    """The number that the sweeper gets of the student, or several."""
    if not isinstance(wanted, str):
        return [_objective(result, each) for each in wanted]  # type: ignore[misc]
    costs = {f"cost/{name}": value for name, value in result.student.cost.known().items()}
    return (result.val.metrics() | costs)[wanted]


def _log_files(job: Job, tracked: Run, result: JobResult, files: Sequence[Path]) -> None:
    """The student's weights, what each network confuses, and other files that are there."""
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


def describe(result: JobResult, config: Config) -> None:
    """What a job is, before anything comes of it.

    Its recipe is what one compares jobs by: short, and without what the job does not use.
    """
    told = _without_passwords(config.model_dump(mode="json", by_alias=True))
    result.seed, result.config, result.options = config.seed, told, options_of(told)
    result.recipe = {
        "dataset": config.dataset.name,
        "student": config.student.name,
        "method": config.method.name,
    }
    if config.method.has_teacher:
        taught = {key: value for key in result.options if (value := _at(told, key)) is not None}
        result.recipe |= {"teacher": config.teacher.name, **taught, CHAIN_LENGTH: config.chain_length}


def _without_passwords(values: Any) -> Any:
    if isinstance(values, dict):
        return {key: _without_passwords(value) for key, value in values.items()}
    if isinstance(values, list):
        return [_without_passwords(value) for value in values]
    return without_passwords(values) if isinstance(values, str) else values


def _at(values: Any, key: str) -> Any:
    """The value of a dotted key, None if there is none."""
    for part in key.split("."):
        values = values.get(part) if isinstance(values, dict) else None
    return values


def _described(job: Job) -> DatasetInfo:
    data, recipe = job.dataset, job.config.dataset
    return {
        "name": recipe.name,
        "fingerprint": data.fingerprint,
        "test_fingerprint": data.test_fingerprint,
        "images": {split: len(data.split(split).labels) for split in ("train", "val", "test")},
        "classes": list(data.classes),
        "shape": list(data.shape),
        "mean": data.mean.tolist(),
        "std": data.std.tolist(),
        "resize": recipe.resize if isinstance(recipe, ImageDataset) else "squash",
        "background": list(recipe.background) if isinstance(recipe, ImageDataset) else None,
        "deep_range": None if data.deep_range is None else list(data.deep_range),
        "config": {**recipe.model_dump(mode="json"), "root": str(Path(recipe.root).expanduser().absolute())},
    }


def _log_model(config: Config, result: JobResult) -> list[str]:
    """Log the student of a job alone as an MLflow model; where it is. Of a sweep, its end logs the best."""
    from kdsweep.export.logged import log_student

    return log_student(SweepInfo(result.run_id or "", [], 1), [result], config.tracking, config.register_as)
