"""The result of one network of a job: its training, figures and cost."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from kdsweep.results.strict import STRICT


@dataclass
class Selection:
    """Figures on the validation split, which choose epochs, recipes and trials.

    Without such a split there are none: wherever these are None, nothing may be chosen.
    """

    __pydantic_config__: ClassVar = STRICT

    accuracy: float
    cross_entropy: float

    @classmethod
    def of_epoch(cls, metrics: Mapping[str, float]) -> "Selection | None":
        """The figures of an epoch of a history; None if no image was held back for validation."""
        if "val/accuracy" not in metrics:
            return None
        return cls(metrics["val/accuracy"], metrics["val/cross_entropy"])

    def metrics(self) -> dict[str, float]:
        """By the names that epochs, objectives and MLflow use."""
        return {f"val/{name}": value for name, value in asdict(self).items()}


@dataclass
class Calibration:
    """Per bin of confidence, in ascending order: images, mean confidence, accuracy; None for an empty bin."""

    __pydantic_config__: ClassVar = STRICT

    count: list[int]
    confidence: list[float | None]
    accuracy: list[float | None]


@dataclass
class Evaluation:
    """Figures on the test split; unknown ones are None or empty.

    `f1` belongs to the `positive_class` of two; `macro_f1` is the mean over the classes that occur or are
    predicted; `agreement` compares with the teachers. The confusion matrix has true classes as rows. `right`
    has a bit per image, `resampled` the figures on resamples of the images, both packed (`packed.py`).
    """

    __pydantic_config__: ClassVar = STRICT

    accuracy: float
    cross_entropy: float | None = None
    macro_f1: float | None = None
    roc_auc: float | None = None
    calibration_error: float | None = None
    calibration: Calibration | None = None
    confusion: list[list[int]] = field(default_factory=list)
    class_accuracy: dict[str, float] = field(default_factory=dict)
    right: str | None = None
    resampled: dict[str, str] = field(default_factory=dict)
    f1: float | None = None
    positive_class: str | None = None
    agreement: float | None = None

    def numbers(self) -> Iterator[tuple[str, float]]:
        """The known figures of the whole split, by name."""
        for name in (
            "accuracy",
            "cross_entropy",
            "macro_f1",
            "roc_auc",
            "calibration_error",
            "f1",
            "agreement",
        ):
            value = getattr(self, name)
            if value is not None:
                yield name, value


@dataclass
class Cost:
    """Parameters and bytes of the weights; FLOPs and latency of one image. Unknown ones are None."""

    __pydantic_config__: ClassVar = STRICT

    parameters: int | None = None
    flops: float | None = None
    bytes: int | None = None
    latency_ms: float | None = None

    def known(self) -> dict[str, float]:
        """By name, without unknown ones."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass
class NetworkResult:
    """A network, identified by its stage's key, or an ensemble, by its evaluation's.

    `source` is the digest of the network's code if the user wrote it. An ensemble has the roles of its
    `members`, and no training.
    """

    __pydantic_config__: ClassVar = STRICT

    key: str
    name: str
    reused: bool
    seconds: float
    val: Selection | None
    test: Evaluation
    cost: Cost
    best_epoch: int | None = None
    history: list[dict[str, float]] = field(default_factory=list)
    model: dict[str, Any] = field(default_factory=dict)
    source: str | None = None
    training: dict[str, Any] = field(default_factory=dict)
    objective: dict[str, Any] = field(default_factory=dict)
    members: list[str] = field(default_factory=list)
