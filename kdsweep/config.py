"""The schema of a job's config. Nothing is loaded or trained before `parse` has accepted it."""

import json
import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from omegaconf import DictConfig, OmegaConf
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from kdsweep.errors import ConfigError, unknown_key

Monitor = Literal["val/accuracy", "val/cross_entropy"]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """A mapping of the config: no other keys, no silent conversions, no NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Augment(Section):
    crop_padding: int = Field(ge=0)
    horizontal_flip: bool

    @property
    def random(self) -> bool:
        return self.crop_padding > 0 or self.horizontal_flip


class Dataset(Section):
    name: Literal["digits", "mnist", "fashion_mnist", "cifar10"]
    root: str
    train_limit: int | None = Field(ge=1)
    test_limit: int | None = Field(ge=1)
    val_fraction: float = Field(gt=0, lt=1)
    split_seed: int = Field(ge=0, lt=2**32)
    normalize: Literal["unit", "standard"]
    augment: Augment


class Training(Section):
    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    optimizer: Literal["adam", "adamw", "sgd"]
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    momentum: float = Field(ge=0, lt=1)
    nesterov: bool
    schedule: Literal["constant", "cosine", "multistep", "exponential"]
    milestones: list[int]
    gamma: float = Field(gt=0, le=1)
    keep: Literal["best", "last"]
    monitor: Monitor
    patience: int | None = Field(ge=1)
    mixed_precision: bool

    def effective(self) -> dict[str, Any]:
        """What is used of it, so that two recipes that train alike are one."""
        unused = set()
        if self.optimizer != "sgd":
            unused |= {"momentum", "nesterov"}
        if self.schedule != "multistep":
            unused |= {"milestones"}
        if self.schedule not in ("multistep", "exponential"):
            unused |= {"gamma"}
        if self.keep == "last" and self.patience is None:
            unused |= {"monitor"}
        return self.model_dump(exclude=unused)

    @field_validator("nesterov")
    @classmethod
    def _nesterov_needs_momentum(cls, nesterov: bool, info: ValidationInfo) -> bool:
        if nesterov and info.data.get("optimizer") == "sgd" and info.data.get("momentum") == 0:
            raise PydanticCustomError("nesterov", "needs momentum > 0")
        return nesterov

    @field_validator("milestones")
    @classmethod
    def _milestones_rise(cls, milestones: list[int], info: ValidationInfo) -> list[int]:
        if info.data.get("schedule") == "multistep" and not milestones:
            raise PydanticCustomError("milestones", "schedule=multistep needs epochs here, such as [15,25]")
        if milestones != sorted(set(milestones)) or any(epoch < 1 for epoch in milestones):
            raise PydanticCustomError("milestones", "must be epochs, 1 or more, in rising order")
        return milestones


class Network(Section):
    """A network by import path, called with num_classes, in_channels, image_size and its options."""

    name: str = Field(min_length=1)
    model: dict[str, Any]

    @field_validator("model")
    @classmethod
    def _has_a_target(cls, model: dict[str, Any]) -> dict[str, Any]:
        target = model.get("_target_")
        if not isinstance(target, str) or "." not in target:
            raise PydanticCustomError("target", "needs _target_, an import path such as my_networks.Small")
        return model


class Teacher(Network):
    training: Training


class Distillation(Section):
    name: Literal["kd"]
    scale_by_temperature_squared: bool


class Scratch(Section):
    name: Literal["scratch"]


Method = Annotated[Distillation | Scratch, Field(discriminator="name")]


class Hardware(Section):
    device: str = Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    threads: int | None = Field(ge=1)
    jobs: int = 1

    @field_validator("jobs")
    @classmethod
    def _jobs_are_counted(cls, jobs: int) -> int:
        if jobs < 1 and jobs != -1:
            raise PydanticCustomError("jobs", "must be 1 or more, or -1 for one per core")
        return jobs

    @property
    def cpu_threads(self) -> int:
        """CPU threads of one job: as configured, else the cores divided by the jobs at a time."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        jobs = cores if self.jobs == -1 else self.jobs
        return self.threads or max(1, cores // jobs)


class Tracking(Section):
    uri: str = Field(min_length=1)
    experiment: str = Field(min_length=1)


class Config(Section):
    """A job: one student, one MLflow run, one number."""

    temperature: float = Field(gt=0)
    alpha: Fraction
    chain_length: int
    seed: int = Field(ge=0, lt=2**32)
    objective: Monitor
    baseline: bool
    store: str = Field(min_length=1)
    debug: bool
    tracking: Tracking
    dataset: Dataset
    teacher: Teacher
    student: Network
    method: Method
    training: Training
    hardware: Hardware

    @field_validator("chain_length")
    @classmethod
    def _chains_come_next(cls, chain_length: int) -> int:
        if chain_length != 1:
            raise PydanticCustomError("chain_length", "must be 1: the teacher teaches the student directly")
        return chain_length


def parse(config: DictConfig) -> Config:
    """The typed config of a job. Raises ConfigError with a line for each thing wrong with it."""
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise ConfigError("\n".join(f"{key} is missing (???): give {key}=…" for key in missing))
    try:
        values = OmegaConf.to_container(config, resolve=True)
    except Exception as error:  # an interpolation that leads nowhere
        raise ConfigError(f"the config does not resolve: {str(error).splitlines()[0]}") from error
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        assert isinstance(values, Mapping)
        lines = [_explain(each, values) for each in error.errors()]
        # a teacher's recipe repeats the student's, and so would the mistakes in it
        repeated = {f"teacher.{line}" for line in lines}
        raise ConfigError("\n".join(line for line in lines if line not in repeated)) from error


def _explain(error: ErrorDetails, values: Mapping[Any, Any]) -> str:
    """One line: the key, its value, what is allowed."""
    path = _path(error["loc"], values)
    key = ".".join(map(str, path))
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return unknown_key(key, _siblings(path, values))
    if kind == "missing":
        return f"{key} is missing from the config"
    if kind == "literal_error":
        allowed = f"allowed: {context['expected']}".replace(" or ", ", ").replace("'", "")
    elif kind == "union_tag_invalid":
        return f"{key}.name={context['tag']}: allowed: {context['expected_tags']}".replace("'", "")
    elif kind == "string_pattern_mismatch":
        allowed = "allowed: auto, cpu, cuda, cuda:N"
    else:
        allowed = error["msg"].replace("Input should be", "must be").replace("a valid ", "a ")
        allowed = allowed.replace("a integer", "a whole number")
    if isinstance(error["input"], Mapping):
        return f"{key}: {allowed}"
    value = error["input"] if isinstance(error["input"], str) else json.dumps(error["input"])
    return f"{key}={value}: {allowed}"


def _path(location: tuple[int | str, ...], values: Any) -> list[int | str]:
    """The location without the union's tags, which pydantic names but the config does not."""
    path = []
    for part in location:
        if isinstance(values, Mapping) and part not in values and part is not location[-1]:
            continue
        path.append(part)
        values = values.get(part) if isinstance(values, Mapping) else None
    return path


def _siblings(path: list[int | str], values: Mapping[Any, Any]) -> list[str]:
    for part in path[:-1]:
        values = values[part]
    return [str(key) for key in values if key != path[-1]]
