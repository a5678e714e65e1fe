"""A job before it trains: its data loaded, its stages planned, its networks and recipes tried."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from kdsweep.config import Config, ImageDataset, Network
from kdsweep.config.code import default_options, source_digest
from kdsweep.data.dataset import Dataset, load
from kdsweep.data.split import UNLABELED
from kdsweep.data.unlabeled import Mix
from kdsweep.errors import ConfigError
from kdsweep.networks.build import check, parameter_count
from kdsweep.networks.weights import weights_digest
from kdsweep.results.dataset import DatasetInfo
from kdsweep.stage import Stage
from kdsweep.stages.answers import check_outputs, is_outputs
from kdsweep.stages.begin import locate
from kdsweep.stages.chains import ALONE, Known, Plan, plan
from kdsweep.stages.choices import refuse_choices
from kdsweep.stages.classes import for_classes
from kdsweep.stages.teachers import expected_classes, mapping_key
from kdsweep.store.place import open_store
from kdsweep.store.store import Store
from kdsweep.system.progress import once
from kdsweep.tracking import download
from kdsweep.training.device import resolve, uses_cuda

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """A config with its data and the stages that it needs; nothing is trained yet."""

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

    @property
    def uses_unlabeled(self) -> bool:
        """Whether a network learns from images without labels."""
        return any(UNLABELED in stage.data for stage in self.plan.links().values())

    @property
    def dataset_info(self) -> DatasetInfo:
        data, config = self.dataset, self.config.dataset
        root = str(Path(config.root).expanduser().absolute())
        used = self.uses_unlabeled and data.unlabeled_fingerprint
        return {
            "name": config.name,
            "fingerprint": data.fingerprint,
            "test_fingerprint": data.test_fingerprint,
            **({"unlabeled_fingerprint": used} if used else {}),
            "images": {
                name: len(split.labels) for name, split in data.splits.items() if name != UNLABELED or used
            },
            "classes": list(data.classes),
            "shape": list(data.shape),
            "mean": data.mean.tolist(),
            "std": data.std.tolist(),
            "resize": config.resize if isinstance(config, ImageDataset) else "squash",
            "background": list(config.background) if isinstance(config, ImageDataset) else None,
            "deep_range": None if data.deep_range is None else list(data.deep_range),
            "config": {**config.model_dump(mode="json"), "root": root},
        }


def prepare(config: Config) -> Job:
    """Load the data and plan the stages. Raises DataError or ConfigError for a job that cannot run here."""
    store = open_store(config.store, config.store_budget, config.answers_gb)
    dataset = load(config.dataset, store)
    initial: dict[str, Path] = {}

    def initial_digest(network: Network) -> str | None:
        if network.weights is None:
            return None
        file = locate(network.weights, store, lambda uri: download(config.tracking, uri))
        if expected := expected_classes(network, dataset.classes):
            mapping = mapping_key(network, config.all_teachers)
            file = for_classes(network.weights, file, network.model, expected, dataset.shape, store, mapping)
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
        classes=dataset.classes,
        draws_val=dataset.draws_val,
        images=dataset.available,
        trained_on=len(dataset.train.labels),
        unlabeled=dataset.unlabeled_fingerprint,
        unlabeled_images=len(dataset.unlabeled.labels) if dataset.unlabeled else 0,
    )
    job = Job(config, dataset, plan(config, dataset.fingerprint, known), store, initial)
    if dataset.val is None:
        refuse_choices(config, job.plan.links())
    _warn_of_unused(job)
    _check_untrained(job)
    return job


def _warn_of_unused(job: Job) -> None:
    """Explain why a taught student does not learn from images without labels."""
    share = job.config.dataset.unlabeled_share
    if share is not None and not job.dataset.unlabeled:
        text = f"dataset.unlabeled_share={share}: plays no part without dataset.unlabeled, a folder of images"
        once(log.warning, text)
    taught = [stage for stage in job.plan.links().values() if stage.parents]
    if job.dataset.unlabeled and taught and not job.uses_unlabeled:
        name = job.config.method.name
        text = f"method={name}: all of its terms need labels, so images without labels play no part in it"
        once(log.warning, text)


def _check_untrained(job: Job) -> None:
    """Try the networks, recipes and terms that the store has not trained yet on two images."""
    untrained = {role: stage for role, stage in job.plan.links().items() if not job.store.find(stage.key)}
    if not untrained:
        return
    if not job.config.plan:
        job.store.check_budget()
    if not job.config.hardware.elsewhere:
        resolve(job.config.hardware)
    import torch

    from kdsweep.training.recipe_check import recipe_problems
    from kdsweep.training.try_terms import check_terms

    torch.set_num_threads(1)  # threads that wait for each other take longer than two images
    classes, shape = len(job.dataset.classes), job.dataset.shape
    recipes = {role: stage.training for role, stage in untrained.items() if stage.training.total_epochs}
    problems = recipe_problems(recipes)
    for role, stage in untrained.items():
        role = "student" if role == "scratch" else role
        weights = job.initial[stage.initial] if stage.initial else None
        try:
            if not is_outputs(stage):
                check(stage.model, classes, shape, weights, stage.training.total_epochs > 0)
            if stage.parents or stage.objective != ALONE:
                check_terms(stage, classes, shape, job.initial, _labeled_in_batch(stage, job.dataset))
        except ConfigError as error:
            problems[role] = str(error) if str(error).startswith("method.") else f"{role}.{error}"
    problems |= dict(_of_outputs(job, untrained.values()))
    if problems:
        raise ConfigError("\n".join(problems.values()))


def _labeled_in_batch(stage: Stage, dataset: Dataset) -> float | None:
    """How many images of a batch have labels, on average; None if the stage learns from no others."""
    if UNLABELED not in stage.data or dataset.unlabeled is None:
        return None
    counts = len(dataset.train.labels), len(dataset.unlabeled.labels)
    return Mix(*counts, stage.data[UNLABELED]["share"], stage.training.batch_size).labeled_in_batch


def _of_outputs(job: Job, untrained: Iterable[Stage]) -> Iterator[tuple[str, str]]:
    """What the files of outputs lack that these stages need, by the roles of the files."""
    roles = {stage.key: role for role, stage in job.plan.links().items()}
    for stage in untrained:
        for file in filter(is_outputs, (stage, *stage.parents)):
            try:
                outputs = job.initial[file.initial or ""]
                check_outputs(file, outputs, job.dataset, UNLABELED in stage.data)
            except ConfigError as error:
                yield roles[file.key], f"{roles[file.key]}.{error}"
