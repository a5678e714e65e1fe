"""What training reports while it runs."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Waiting:
    """Another job is training the stage of `role`; this one waits for it."""

    role: str


@dataclass(frozen=True)
class EpochEnded:
    """`metrics` of epoch `epoch` (from 1) of `epochs`; `seconds` it took."""

    role: str
    epoch: int
    epochs: int
    metrics: dict[str, float]
    seconds: float


@dataclass(frozen=True)
class StageFinished:
    """The stage of `role` is in the store: this job trained it, or found it (`reused`)."""

    role: str
    key: str
    reused: bool
    seconds: float
    history: list[dict[str, float]]
    best_epoch: int


Event = Waiting | EpochEnded | StageFinished
Emit = Callable[[Event], None]
