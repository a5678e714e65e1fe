"""A stage is one trained network, described by everything that determined its weights.

Planning is pure: it names the stages a job needs without training, loading or importing torch.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from kdsweep.config import Config, Dataset, Distillation, Training

# Raised when a change of kdsweep's own code changes what a description trains.
FORMAT = 1


def canonical(value: Any) -> Any:
    """`value` such that equal descriptions are equal as JSON text: 4.0 is 4, a tuple is a list."""
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


@dataclass(frozen=True)
class Objective:
    """The loss that a stage minimises, by name, and what it takes beside outputs and labels."""

    name: str
    options: Mapping[str, float | bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """One network to train. Two stages with one key have the same weights.

    `data` is the training data's content and use, `model` an import path with options, `source` the digest of
    its code if that is the user's own, `parents` the stages that teach it.
    """

    data: Mapping[str, Any]
    model: Mapping[str, Any]
    training: Training
    objective: Objective
    seed: int
    parents: tuple["Stage", ...] = ()
    source: str | None = None

    def describe(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "data": dict(self.data),
            "model": dict(self.model),
            "source": self.source,
            "training": self.training.effective(),
            "objective": {"name": self.objective.name, **self.objective.options},
            "seed": self.seed,
            "parents": [parent.key for parent in self.parents],
        }

    @cached_property
    def key(self) -> str:
        return digest(self.describe())


@dataclass(frozen=True)
class Plan:
    """The stages of a job. `teacher` is None for a student that trains alone, `scratch` without baseline."""

    student: Stage
    teacher: Stage | None
    scratch: Stage | None

    def links(self) -> dict[str, Stage]:
        """Role to stage, in the order in which they are trained."""
        roles = {"teacher": self.teacher, "scratch": self.scratch, "student": self.student}
        return {role: stage for role, stage in roles.items() if stage is not None}


def plan(config: Config, fingerprint: str, sources: Mapping[str, str | None]) -> Plan:
    """The stages that `config` needs.

    `fingerprint` is the content of the training images; `sources` maps roles to the digest of their network's
    code if that is the user's own, since editing it makes another network.
    """
    data = _training_data(config.dataset, fingerprint)

    def stage(role: str, training: Training, objective: Objective, *parents: Stage) -> Stage:
        network = config.teacher if role == "teacher" else config.student
        return Stage(data, network.model, training, objective, config.seed, parents, sources.get(role))

    alone = Objective("cross_entropy")
    if not isinstance(config.method, Distillation):
        return Plan(student=stage("student", config.training, alone), teacher=None, scratch=None)

    teacher = stage("teacher", config.teacher.training, alone)
    taught = Objective(
        config.method.name,
        {
            "temperature": config.temperature,
            "alpha": config.alpha,
            "scale_by_temperature_squared": config.method.scale_by_temperature_squared,
        },
    )
    return Plan(
        student=stage("student", config.training, taught, teacher),
        teacher=teacher,
        scratch=stage("student", config.training, alone) if config.baseline else None,
    )


def _training_data(dataset: Dataset, fingerprint: str) -> dict[str, Any]:
    """What of the data set shapes the weights: not its path, nor the test images."""
    used = dataset.model_dump(exclude={"name", "root", "test_limit"})
    return {"fingerprint": fingerprint, **used}
