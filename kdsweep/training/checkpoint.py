"""What a training needs to go on after it was killed, written after every epoch."""

import json
import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from kdsweep.training.optimizers import optimizer_tensors, restore_optimizer

log = logging.getLogger(__name__)


@dataclass
class Progress:
    """How far a training has come, counting epochs from 1."""

    epoch: int = 0
    best_epoch: int = 0
    best_score: list[float] = field(default_factory=list)
    history: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0

    def record(self, metrics: dict[str, float], monitor: str, seconds: float) -> bool:
        """Count an epoch; whether it is the best so far. Equal accuracies are told apart by cross-entropy."""
        score = [-metrics["val/cross_entropy"]]
        if monitor == "val/accuracy":
            score.insert(0, metrics["val/accuracy"])
        self.epoch += 1
        self.seconds += seconds
        self.history.append(metrics)
        better = not self.best_score or score > self.best_score
        if better:
            self.best_epoch, self.best_score = self.epoch, score
        return better

    def exhausted(self, patience: int | None) -> bool:
        """Whether `patience` epochs have passed without a better one."""
        return patience is not None and self.epoch - self.best_epoch >= patience


class Checkpoint:
    """Network, optimizer, generators, best weights and progress as one safetensors file."""

    def __init__(
        self,
        folder: Path,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        order: torch.Generator,
        device: torch.device,
    ) -> None:
        self.file = folder / "checkpoint.safetensors"
        self.network, self.optimizer, self.order, self.device = network, optimizer, order, device
        self._best: dict[str, Tensor] = {}

    def best(self) -> dict[str, Tensor]:
        return self._best

    def save(self, progress: Progress, better: bool) -> None:
        """Replace the checkpoint in one step; with `better`, the weights of now are the best."""
        weights = _contiguous(self.network.state_dict())
        if better:  # into the same memory every time, which is faster than into new
            self._best = self._best or {name: torch.empty_like(tensor) for name, tensor in weights.items()}
            for name, tensor in weights.items():
                self._best[name].copy_(tensor)
        tensors = {
            **_prefixed("network", weights),
            **_prefixed("best", self._best),
            **_prefixed("optimizer", _contiguous(optimizer_tensors(self.optimizer))),
            "random/order": self.order.get_state(),
            "random/cpu": torch.get_rng_state(),
        }
        if self.device.type == "cuda":
            tensors["random/cuda"] = torch.cuda.get_rng_state(self.device)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        new = self.file.with_suffix(".new")
        save_file(tensors, new, metadata={"progress": json.dumps(asdict(progress))})
        new.replace(self.file)

    def load(self) -> Progress:
        """Put everything back as it was after the last epoch; a fresh Progress if there is no checkpoint."""
        if not self.file.exists():
            return Progress()
        try:
            with safe_open(self.file, framework="pt") as stored:
                progress = Progress(**json.loads(stored.metadata()["progress"]))
                tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            log.warning("checkpoint %s cannot be read (%s); training starts anew", self.file, error)
            return Progress()
        self.network.load_state_dict(_part("network", tensors))
        self._best = {name: tensor.to(self.device) for name, tensor in _part("best", tensors).items()}
        restore_optimizer(self.optimizer, _part("optimizer", tensors))
        self.order.set_state(tensors["random/order"])
        torch.set_rng_state(tensors["random/cpu"])
        if "random/cuda" in tensors and self.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random/cuda"], self.device)
        return progress


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """As safetensors takes them: contiguous, and tied weights as copies."""
    plain: dict[str, Tensor] = {}
    seen = set()
    for name, tensor in tensors.items():
        plain[name] = tensor.clone() if tensor.data_ptr() in seen else tensor.contiguous()
        seen.add(tensor.data_ptr())
    return plain


def _prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}


def _part(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}/"
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
