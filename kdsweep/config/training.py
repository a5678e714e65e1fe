"""The section `training`, which a teacher and an assistant have too."""

from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, Field, ValidationInfo, WithJsonSchema, field_validator
from pydantic_core import PydanticCustomError

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


class Phase(NamedTuple):
    """Some epochs of training with one optimizer."""

    epochs: int
    learning_rate: float
    trainable: int | str


class FineTuning(Section):
    """A second phase of training; none with 0 epochs."""

    epochs: int = Field(ge=0, le=MOST_EPOCHS)
    """of a second phase with a fresh optimizer; 0: none"""
    learning_rate: float = Field(gt=0)
    """of the second phase"""
    trainable: Trainable
    """in the second phase"""


class Training(Section):
    epochs: int = Field(ge=0, le=MOST_EPOCHS)
    """passes over the training split; 0 takes `weights` as they are"""
    batch_size: int = Field(ge=1)
    """images per step"""
    optimizer: Literal["adam", "adamw", "sgd"]
    """what steps; a fresh one in each phase"""
    learning_rate: float = Field(gt=0)
    """at the start of the schedule"""
    epsilon: float = Field(default=1e-8, gt=0)
    """adam and adamw alone; added to the denominator of a step"""
    weight_decay: float = Field(ge=0)
    """as the optimizer means it: decoupled with adamw, else added to the gradient"""
    momentum: float = Field(ge=0, lt=1)
    """sgd alone"""
    nesterov: bool
    """sgd alone, with momentum > 0"""
    schedule: Literal["constant", "cosine", "multistep", "exponential"]
    """constant; cosine (to 0); multistep (times gamma at milestones); exponential (times gamma per epoch)"""
    milestones: list[int]
    """epochs, rising; multistep alone"""
    gamma: float = Field(gt=0, le=1)
    """factor of multistep and exponential"""
    keep: Literal["best", "last"]
    """best: the weights of the best epoch by `monitor`; last: of the last"""
    monitor: Monitor
    """what the best epoch and early stopping look at; train/loss sees no validation images"""
    patience: int | None = Field(ge=1)
    """stop after this many epochs without a better one; null: train them all"""
    mixed_precision: bool
    """bfloat16 on CUDA; elsewhere float32, as with false"""
    trainable: Trainable
    """all; head; or N, the last N layers that have weights; what is frozen stays in eval mode"""
    fine_tuning: FineTuning
    """a second phase"""

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
        phases = [phase for phase in self.phases if phase.epochs]
        if not phases:
            return {"epochs": 0}
        used: dict[str, Any] = {**phases[0]._asdict(), "batch_size": self.batch_size}
        if len(phases) == 2:
            used["fine_tuning"] = phases[1]._asdict()
        plain = self.optimizer == "adamw" and self.weight_decay == 0  # which decays alone set apart
        used |= {"optimizer": "adam" if plain else self.optimizer, "weight_decay": self.weight_decay}
        if self.optimizer == "sgd":
            used |= {"momentum": self.momentum, "nesterov": self.nesterov}
        elif self.epsilon != Training.model_fields["epsilon"].default:
            used["epsilon"] = self.epsilon
        used |= self._effective_schedule(max(phase.epochs for phase in phases))
        # a phase cannot go without a better epoch for longer than this; the first epoch of all is better
        longest = max(phase.epochs - (number == 0) for number, phase in enumerate(phases))
        used["patience"] = self.patience if self.patience and self.patience < longest else None
        used["keep"] = self.keep if self.total_epochs > 1 else "last"
        if used["keep"] == "best" or used["patience"]:
            used["monitor"] = self.monitor
        if self.mixed_precision:
            used["mixed_precision"] = True
        return used

    def _effective_schedule(self, epochs: int) -> dict[str, Any]:
        """What is used of the schedule in phases of at most so many epochs; it changes rates after each."""
        reached = [epoch for epoch in self.milestones if epoch < epochs]
        match self.schedule:
            case "multistep" if reached and self.gamma < 1:
                return {"schedule": self.schedule, "milestones": reached, "gamma": self.gamma}
            case "exponential" if epochs > 1 and self.gamma < 1:
                return {"schedule": self.schedule, "gamma": self.gamma}
            case "cosine" if epochs > 1:
                return {"schedule": self.schedule}
        return {"schedule": "constant"}

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
