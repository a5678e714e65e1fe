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
    """The stage of `role` is in the store: trained by this job, or found (`reused`)."""

    role: str
    key: str
    reused: bool
    seconds: float
    history: list[dict[str, float]]
    best_epoch: int

    def best(self, prefix: str) -> dict[str, float]:
        """The metrics of the best epoch whose names begin with `prefix`."""
        best = self.history[self.best_epoch - 1]
        return {name: value for name, value in best.items() if name.startswith(prefix)}


Event = Waiting | EpochEnded | StageFinished
Emit = Callable[[Event], None]
