"""The section `training`, which a teacher and an assistant have too."""

from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from kdsweep.config.component import component
from kdsweep.config.section import Section

MOST_EPOCHS = 1_000_000  # more is a slip of the keyboard
Selection = Literal["val/accuracy", "val/cross_entropy"]
Monitor = Literal[Selection, "train/loss"]


def _is_trainable(value: int | str) -> int | str:
    if value not in ("all", "head") and (isinstance(value, str) or value < 1):
        raise PydanticCustomError("trainable", "allowed: all, head, or a number N of last layers")
    return value


Trainable = Annotated[
    int | str,
    AfterValidator(_is_trainable),
    WithJsonSchema({"anyOf": [{"enum": ["all", "head"]}, {"type": "integer", "minimum": 1}]}),
]


SAME = "same"  # in the recipe of a teacher or an assistant it stands for the student's value
EPOCHS = "epochs"  # in a schedule's options it stands for the number of epochs of a phase


def _is_no_name(value: Any) -> Any:
    if isinstance(value, str):
        raise PydanticCustomError(
            "component", "must be a mapping; a file is chosen with a slash, such as training/optimizer=sgd"
        )
    return value


def _leaves_the_rate_alone(values: dict[str, Any]) -> dict[str, Any]:
    if "lr" in values:
        raise PydanticCustomError("rate", "its lr is given by learning_rate; leave it out")
    return values


Optimizer = Annotated[
    dict[str, Any],
    BeforeValidator(_is_no_name),
    AfterValidator(component("torch.optim.SGD")),
    AfterValidator(_leaves_the_rate_alone),
]
Schedule = Annotated[
    dict[str, Any],
    BeforeValidator(_is_no_name),
    AfterValidator(component("torch.optim.lr_scheduler.StepLR")),
]


class Phase(NamedTuple):
    """Some epochs of training with one optimizer."""

    epochs: int
    learning_rate: float
    trainable: int | str


class FineTuning(Section):
    """A second phase of training, if it has epochs."""

    epochs: int = Field(ge=0, le=MOST_EPOCHS)
    """epochs of a second phase with a fresh optimizer; 0: no second phase"""
    learning_rate: float = Field(gt=0)
    """learning rate of the second phase"""
    trainable: Trainable
    """layers that train in the second phase: all, head or N"""


class Training(Section):
    epochs: int = Field(ge=0, le=MOST_EPOCHS)
    """passes over the training split; 0 uses `weights` as they are"""
    batch_size: int = Field(ge=1)
    """images per step"""
    optimizer: Optimizer
    """the optimizer: import path of a callable (params, lr, …), and its options; a fresh one in each phase"""
    learning_rate: float = Field(gt=0)
    """rate at the start of the schedule; the optimizer's `lr`"""
    schedule: Schedule
    """the schedule: import path of a callable (optimizer, …), and its options; stepped after each epoch"""
    keep: Literal["best", "last"]
    """best: the weights of the best epoch by `monitor`; last: those of the last epoch"""
    monitor: Monitor
    """figure that decides the best epoch and early stopping; train/loss uses no validation images"""
    patience: int | None = Field(ge=1)
    """stop after this many epochs without a better one; null: never"""
    mixed_precision: bool
    """bfloat16 on CUDA; elsewhere float32, as with false"""
    ema: float | None = Field(default=None, gt=0, lt=1)
    """decay of a moving average of the weights, which is evaluated and kept instead of them; null: none"""
    clip_norm: float | None = Field(default=None, gt=0)
    """norm to which longer gradients, of all that learns together, are shortened in each step; null: none"""
    sampling: Literal["shuffled", "balanced"] = "shuffled"
    """shuffled: each image once per epoch; balanced: as many draws, in which classes are equally probable"""
    answers: Literal["float32", "float16"] = "float32"
    """numbers of the teachers' answers to augmented images; float16: half as large to keep, and rounded"""
    trainable: Trainable
    """all; head; or N, the last N layers with weights; frozen layers stay in eval mode"""
    fine_tuning: FineTuning
    """a second phase"""

    @property
    def phases(self) -> list[Phase]:
        """The phases, in order."""
        first, second = Phase(self.epochs, self.learning_rate, self.trainable), self.fine_tuning
        return [first, Phase(second.epochs, second.learning_rate, second.trainable)]

    @property
    def total_epochs(self) -> int:
        return sum(phase.epochs for phase in self.phases)

    def effective(self) -> dict[str, Any]:
        """The options that play a part, so that two recipes that train alike are one."""
        phases = [phase for phase in self.phases if phase.epochs]
        if not phases:
            return {"epochs": 0}
        used: dict[str, Any] = {**phases[0]._asdict(), "batch_size": self.batch_size}
        if len(phases) == 2:
            used["fine_tuning"] = phases[1]._asdict()
        used |= {"optimizer": self.optimizer, "schedule": self.schedule}
        # a phase cannot go without a better epoch for longer than this; the first epoch of all is better
        longest = max(phase.epochs - (number == 0) for number, phase in enumerate(phases))
        used["patience"] = self.patience if self.patience and self.patience < longest else None
        used["keep"] = self.keep if self.total_epochs > 1 else "last"
        if used["keep"] == "best" or used["patience"]:
            used["monitor"] = self.monitor
        if self.mixed_precision:
            used["mixed_precision"] = True
        used |= {name: value for name in ("ema", "clip_norm") if (value := getattr(self, name))}
        if self.sampling == "balanced":
            used["sampling"] = "balanced"
        if self.answers == "float16":
            used["answers"] = "float16"
        return used
