"""A stage is one trained network, described by everything that determined its weights."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from kdsweep.config import Augment, Training

# Raised when a change of kdsweep's own code changes what a description trains.
FORMAT = 5


def canonical(value: Any) -> Any:
    """`value` in one form, so that equal descriptions give equal JSON: 4.0 becomes 4, a tuple a list."""
    if isinstance(value, Mapping):
        return {str(key): canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [canonical(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def digest(description: Mapping[str, Any]) -> str:
    """The content key of a description: 32 hexadecimal digits of the SHA-256 of its canonical JSON."""
    text = json.dumps(canonical(description), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def derive(seed: int, number: int, purpose: str) -> int:
    """The seed of one purpose, such as the batches of epoch `number`, from that of a stage.

    Every purpose has its own, so that one draw does not change another. It has 32 bits, since torch's
    generator on the CPU uses no more.
    """
    return int(digest({"seed": seed, "number": number, "purpose": purpose})[:8], 16)


# The loss that a stage minimises: its terms by name, each with _target_, weight and options.
Objective = Mapping[str, Mapping[str, Any]]


TERMS, LOGITS = "terms", "logits"


@dataclass(frozen=True)
class Average:
    """How several teachers act as one: each term meets each, and the losses are averaged (`of` terms), or
    their probabilities or logits are averaged first. `weights` sum to 1; without any, all are equal."""

    of: str = TERMS
    weights: tuple[float, ...] = ()

    def of_outputs(self) -> "Average":
        """How their outputs are averaged to be evaluated: as probabilities, but for logits."""
        return self if self.of == LOGITS else Average(TERMS, self.weights)

    def shares(self, count: int) -> tuple[float, ...]:
        """The weight of each of `count` teachers."""
        return self.weights or (1 / count,) * count


@dataclass(frozen=True)
class Stage:
    """One network to train. Two stages with one key have the same weights.

    `data` is the training data's content and use, `model` an import path with options, `parents` the stages
    that teach it. `source` is the digest of the network's code if the user wrote it, `initial` that of the
    file of weights to begin with; `defaults` are the options that `model` leaves to the network.
    """

    data: Mapping[str, Any]
    model: Mapping[str, Any]
    training: Training
    objective: Objective
    seed: int
    parents: tuple["Stage", ...] = ()
    source: str | None = None
    initial: str | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    average: Average = Average()
    name: str = field(default="", compare=False)  # of the network, for people; not in the key
    images: int = field(default=0, compare=False)  # that an epoch sees, for forecasts; not in the key

    def describe(self) -> dict[str, Any]:
        average = {} if self.average == Average() else {"average": asdict(self.average)}
        return {
            **average,
            "format": FORMAT,
            "data": dict(self.data),
            "model": {**self.defaults, **self.model},
            "source": self.source,
            "initial": self.initial,
            "training": self.training.effective(),
            "objective": {name: dict(term) for name, term in self.objective.items()},
            "seed": self.seed,
            "parents": [parent.key for parent in self.parents],
        }

    @cached_property
    def augment(self) -> Augment:
        """The random changes of its training images."""
        return Augment.model_validate(self.data["augment"])

    @cached_property
    def key(self) -> str:
        return digest(self.describe())


@dataclass(frozen=True)
class Panel:
    """Networks that act as one: the teachers of a role, or an ensemble; `members` are stages by role."""

    members: Mapping[str, Stage]
    average: Average = Average()
