"""A job before it trains: its data loaded, its stages planned, its networks and recipes tried."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kdsweep.config import Config, ImageDataset, Network
from kdsweep.config.code import default_options, source_digest
from kdsweep.data.dataset import Dataset, load
from kdsweep.errors import ConfigError
from kdsweep.networks.build import check, parameter_count
from kdsweep.networks.weights import weights_digest
from kdsweep.results.dataset import DatasetInfo
from kdsweep.stages.answers import check_outputs, is_outputs
from kdsweep.stages.begin import locate
from kdsweep.stages.chains import ALONE, Known, Plan, plan
from kdsweep.stages.choices import refuse_choices
from kdsweep.stages.classes import for_classes
from kdsweep.stages.teachers import expected_classes, mapping_key
from kdsweep.store.store import Store, open_store
from kdsweep.tracking import download
from kdsweep.training.device import resolve, uses_cuda


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
    def dataset_info(self) -> DatasetInfo:
        data, config = self.dataset, self.config.dataset
        root = str(Path(config.root).expanduser().absolute())
        return {
            "name": config.name,
            "fingerprint": data.fingerprint,
            "test_fingerprint": data.test_fingerprint,
            "images": {name: len(split.labels) for name, split in data.splits.items()},
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
    store = open_store(config.store, config.store_budget)
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
    )
    job = Job(config, dataset, plan(config, dataset.fingerprint, known), store, initial)
    if dataset.val is None:
        refuse_choices(config, job.plan.links())
    _check_untrained(job)
    return job


def _check_untrained(job: Job) -> None:
    """Try the networks, recipes and terms that the store has not trained yet on two images."""
    untrained = {role: stage for role, stage in job.plan.links().items() if not job.store.find(stage.key)}
    if not untrained:
        return
    if not job.config.plan:
        job.store.check_budget()
    if not job.config.hardware.elsewhere:
        resolve(job.config.hardware)
    from kdsweep.training.recipe_check import recipe_problems  # imports torch, as check_terms does
    from kdsweep.training.try_terms import check_terms

    classes, shape = len(job.dataset.classes), job.dataset.shape
    recipes = {role: stage.training for role, stage in untrained.items() if stage.training.total_epochs}
    problems = recipe_problems(recipes)
    for role, stage in untrained.items():
        role = "student" if role == "scratch" else role
        weights = job.initial[stage.initial] if stage.initial else None
        try:
            if is_outputs(stage) and weights:
                check_outputs(stage, weights, job.dataset)
            else:
                check(stage.model, classes, shape, weights, stage.training.total_epochs > 0)
            if stage.parents or stage.objective != ALONE:
                check_terms(stage, classes, shape, job.initial)
        except ConfigError as error:
            problems[role] = str(error) if str(error).startswith("method.") else f"{role}.{error}"
    if problems:
        raise ConfigError("\n".join(problems.values()))
