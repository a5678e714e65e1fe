"""The schema of a job's config."""

import os
from typing import Annotated, Any, Literal, NamedTuple, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

Monitor = Literal["val/accuracy", "val/cross_entropy"]
Fraction = Annotated[float, Field(ge=0, le=1)]

MONITORS = get_args(Monitor)
COSTS = ("cost/parameters", "cost/flops", "cost/latency_ms", "cost/bytes")


def _is_objective(value: Any) -> Any:
    several = isinstance(value, list) and value and set(map(str, value)) <= {*MONITORS, *COSTS}
    if value not in MONITORS and not several:
        raise PydanticCustomError(
            "objective", f"allowed: {', '.join(MONITORS)}, or a list of these and {', '.join(COSTS)}"
        )
    return value


Objective = Annotated[str | list[str], BeforeValidator(_is_objective)]


def _is_trainable(value: int | str) -> int | str:
    if value not in ("all", "head") and (isinstance(value, str) or value < 1):
        raise PydanticCustomError("trainable", "allowed: all, head, or a number N of last layers")
    return value


Trainable = Annotated[int | str, AfterValidator(_is_trainable)]


def _rises(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise PydanticCustomError("range", "must be [smallest, largest]")
    return value


Positive = Annotated[float, Field(gt=0)]
Range = Annotated[tuple[Positive, Positive], Field(strict=False), AfterValidator(_rises)]


class Section(BaseModel):
    """A mapping of the config: no other keys, no silent conversions, no NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Augment(Section):
    """Random changes of training images; by default there are none."""

    crop_padding: int = Field(default=0, ge=0)
    horizontal_flip: bool = False
    vertical_flip: bool = False
    rotation: float = Field(default=0, ge=0, le=180)
    shift: float = Field(default=0, ge=0, lt=1)
    zoom: Range = (1, 1)
    brightness: Range = (1, 1)

    @property
    def random(self) -> bool:
        """Whether an image looks different from epoch to epoch."""
        return self != Augment()


def _as_written(value: Any) -> Any:
    """A class named by a number, which YAML takes for one."""
    return str(value) if type(value) is int else value


class _Dataset(Section):
    name: str = Field(min_length=1)
    root: str
    train_limit: int | None = Field(ge=1)
    test_limit: int | None = Field(ge=1)
    val_fraction: float = Field(gt=0, lt=1)
    split_seed: int = Field(ge=0, lt=2**32)
    positive_class: Annotated[str | None, BeforeValidator(_as_written)]
    normalize: Literal["unit", "standard"]
    augment: Augment


class ArrayDataset(_Dataset):
    """A data set whose files hold arrays of pixels."""

    source: Literal["digits", "mnist", "fashion_mnist", "cifar10", "cifar100"]


class ImageDataset(_Dataset):
    """A data set of image files, decoded and resized once."""

    image_size: int = Field(ge=1)
    resize: Literal["squash", "crop"]
    on_corrupt: Literal["refuse", "skip"]
    test_fraction: float = Field(gt=0, lt=1)


class ImageFolder(ImageDataset):
    """A folder per class, below folders of the splits or alone."""

    source: Literal["image_folder"]
    train_folder: str = Field(min_length=1)
    val_folder: str = Field(min_length=1)
    test_folder: str = Field(min_length=1)


class ImageCsv(ImageDataset):
    """A folder of images and a table of their labels."""

    source: Literal["image_csv"]
    csv: str = Field(min_length=1)
    images: str = Field(min_length=1)
    image_column: str
    label_column: str
    partition_column: str | None


Dataset = Annotated[ArrayDataset | ImageFolder | ImageCsv, Field(discriminator="source")]


class Phase(NamedTuple):
    """Some epochs of training with one optimizer."""

    epochs: int
    learning_rate: float
    trainable: int | str


class FineTuning(Section):
    """A second phase of training; none with 0 epochs."""

    epochs: int = Field(ge=0)
    learning_rate: float = Field(gt=0)
    trainable: Trainable


class Training(Section):
    epochs: int = Field(ge=0)
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
    trainable: Trainable
    fine_tuning: FineTuning

    @property
    def phases(self) -> list[Phase]:
        """What is done one after the other."""
        first, second = Phase(self.epochs, self.learning_rate, self.trainable), self.fine_tuning
        return [first, Phase(second.epochs, second.learning_rate, second.trainable)]

    @property
    def total_epochs(self) -> int:
        return sum(phase.epochs for phase in self.phases)

    def effective(self) -> dict[str, Any]:
        """What is used of it, so that two recipes that train alike are one."""
        if self.total_epochs == 0:
            return {"epochs": 0}
        unused = set()
        if self.optimizer != "sgd":
            unused |= {"momentum", "nesterov"}
        if self.schedule != "multistep":
            unused |= {"milestones"}
        if self.schedule not in ("multistep", "exponential"):
            unused |= {"gamma"}
        if self.keep == "last" and self.patience is None:
            unused |= {"monitor"}
        if self.fine_tuning.epochs == 0:
            unused |= {"fine_tuning"}
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
    weights: str | None = None

    @field_validator("model")
    @classmethod
    def _has_a_target(cls, model: dict[str, Any]) -> dict[str, Any]:
        target = model.get("_target_")
        if not isinstance(target, str) or "." not in target:
            raise PydanticCustomError("target", "needs _target_, an import path such as my_networks.Small")
        return model


class Teacher(Network):
    training: Training


class Assistant(Network):
    """A network between teacher and student; what it does not say is as for the student."""

    training: Training
    temperature: Positive | None = None
    alpha: Fraction | None = None


class Student(Network):
    assistants: list[Assistant]


class Distillation(Section):
    """How each link of a chain is taught by those before it."""

    name: str = Field(min_length=1)
    loss: Literal["kd", "logit_mse"]
    scale_by_temperature_squared: bool
    between: Literal["nothing", "assistants", "generations"]
    taught_by: Literal["previous", "all"]
    assistants: list[Assistant]
    ensemble: list[str]


class Scratch(Section):
    """No teacher."""

    name: Literal["scratch"]
    loss: Literal["cross_entropy"]


Method = Annotated[Distillation | Scratch, Field(discriminator="loss")]


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Hardware(Section):
    device: str = Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    threads: int | None = Field(ge=1)
    minutes: int | None = Field(default=None, ge=3)  # of a Slurm job, whose last two are for leaving it
    jobs: int = 1
    gpus_per_job: float | None = Field(default=None, ge=0, le=1)
    cpus_per_job: int | None = Field(default=None, ge=1)
    address: str | None = Field(default=None, pattern=r"^(auto|(ray://)?[\w.-]+:\d+)$")
    shared_store: bool = True
    partition: str | None = None
    memory_gb: int | None = Field(default=None, ge=1)

    @field_validator("jobs")
    @classmethod
    def _jobs_are_counted(cls, jobs: int, info: ValidationInfo) -> int:
        if jobs < 1 and info.data.get("minutes") is not None:
            raise PydanticCustomError("jobs", "must be 1 or more with hardware=slurm")
        if jobs < 1 and jobs != -1:
            raise PydanticCustomError("jobs", "must be 1 or more, or -1 for as many as fit")
        return jobs

    @field_validator("gpus_per_job")
    @classmethod
    def _slurm_gives_whole_gpus(cls, gpus: float | None, info: ValidationInfo) -> float | None:
        if info.data.get("minutes") is not None and gpus not in (None, 0, 1):
            raise PydanticCustomError("gpus", "must be 0 or 1 with hardware=slurm")
        return gpus

    @model_validator(mode="after")
    def _gpus_are_given_out(self) -> Self:
        if self.gpus_per_job is not None and self.device.startswith("cuda:"):
            raise PydanticCustomError(
                "gpus", f"hardware.device={self.device}: must be cuda, each job is given a GPU of its own"
            )
        return self

    @property
    def elsewhere(self) -> bool:
        """Whether jobs run on other machines, whose devices are not seen here."""
        return self.address is not None or self.minutes is not None

    @property
    def cpu_threads(self) -> int:
        """CPU threads of one job: as configured, else its cores, else all divided by the jobs at a time."""
        jobs = cores() if self.jobs == -1 else self.jobs
        return self.threads or self.cpus_per_job or max(1, cores() // jobs)


class Tracking(Section):
    uri: str = Field(min_length=1)
    experiment: str = Field(min_length=1)


def _is_model_name(value: str) -> str:
    if not value.strip() or value in (".", "..") or set(value) & set("/:"):
        raise PydanticCustomError("model_name", "must be a name without / and :")
    return value


ModelName = Annotated[str, AfterValidator(_is_model_name)]


class Search(Section):
    """Optuna's search over jobs; what a job does is no matter of it."""

    n_trials: int = Field(ge=1)
    pruner: Literal["none", "median", "successive_halving", "hyperband"]
    max_failure_rate: Fraction
    seed: int | None = Field(ge=0, lt=2**32)
    storage: str = Field(min_length=1)
    study: str | None


class Config(Section):
    """A job: one student, one MLflow run, one number (or several, if a search weighs them)."""

    temperature: float = Field(gt=0)
    alpha: Fraction
    chain_length: int = Field(ge=1)
    seed: int = Field(ge=0, lt=2**32)
    objective: Objective
    baseline: bool
    store: str = Field(min_length=1)
    store_budget: float | None = Field(gt=0)
    plan: bool
    debug: bool
    register_as: ModelName | None = Field(default=None, alias="register")  # which is a method of the class
    tracking: Tracking
    dataset: Dataset
    teacher: Teacher
    student: Student
    method: Method
    training: Training
    hardware: Hardware
    search: Search | None = None

    @property
    def assistants(self) -> list[Assistant]:
        """The networks that may stand between teacher and student, from large to small."""
        listed = self.method.assistants if isinstance(self.method, Distillation) else []
        return listed or self.student.assistants

    @model_validator(mode="after")
    def _chain_has_its_links(self) -> Self:
        method, between = self.method, self.chain_length - 1
        if not isinstance(method, Distillation) or not between or method.between == "generations":
            return self
        if method.between == "nothing":
            raise PydanticCustomError(
                "chain",
                f"chain_length={self.chain_length}: method={method.name} has no networks in between; "
                "allowed: 1, or a method that has: takd, dgkd (assistants), ban (generations)",
            )
        if len(self.assistants) < between:
            raise PydanticCustomError(
                "chain",
                f"chain_length={self.chain_length}: needs {between} assistants, and {len(self.assistants)} "
                "are listed, from large to small, in student.assistants or method.assistants",
            )
        return self

    @property
    def _networks(self) -> list[tuple[str, Network, Training]]:
        """What the method trains, by the key that it is given under."""
        networks: list[tuple[str, Network, Training]] = [("student", self.student, self.training)]
        if isinstance(self.method, Distillation):
            networks.append(("teacher", self.teacher, self.teacher.training))
            if self.method.between == "assistants":
                where = "method" if self.method.assistants else "student"
                for i, assistant in enumerate(self.assistants):
                    networks.append((f"{where}.assistants.{i}", assistant, assistant.training))
        return networks

    @model_validator(mode="after")
    def _pixels_are_normalised_once(self) -> Self:
        for key, network, _ in self._networks:
            own = network.model["_target_"].startswith("kdsweep.models.backbone.")
            if own and self.dataset.normalize != "unit":
                raise PydanticCustomError(
                    "normalize", f"dataset.normalize=standard: must be unit, {key}={network.name} has its own"
                )
        return self

    @model_validator(mode="after")
    def _nodes_reach_mlflow(self) -> Self:
        if not self.hardware.shared_store and self.tracking.uri.startswith(("sqlite:", "file:", "/", ".")):
            raise PydanticCustomError(
                "unreachable",
                f"tracking.uri={self.tracking.uri}: must be a server with hardware.shared_store=false, for "
                "nodes exchange stages through it; start one by `mlflow server` and give http://HOST:5000",
            )
        if not self.hardware.shared_store and self.search and self.search.storage.startswith("sqlite:"):
            raise PydanticCustomError(
                "unreachable",
                f"search.storage={self.search.storage}: must be a database that all nodes reach with "
                "hardware.shared_store=false, such as postgresql://HOST/optuna",
            )
        return self

    @model_validator(mode="after")
    def _all_are_trained(self) -> Self:
        for key, network, training in self._networks:
            if training.total_epochs == 0 and network.weights is None:
                recipe = "training" if key == "student" else f"{key}.training"
                raise PydanticCustomError(
                    "untrained", f"{recipe}.epochs=0: must be 1 or more, or {key}.weights must be given"
                )
        return self
