"""What a training needs to resume after it was killed, written between epochs.

A checksum over everything shows whether a checkpoint is intact; if anything is wrong, training starts anew.
"""

import hashlib
import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from kdsweep.store.unfinished import CHECKPOINT
from kdsweep.system.files import discard, exists, share
from kdsweep.training.optimizers import optimizer_tensors, restore_optimizer

log = logging.getLogger(__name__)

SHARE = 0.05  # of a training's time that saving may take
SECONDS_BETWEEN_SAVES = 60.0  # at most, however long a save takes


@dataclass
class Progress:
    """How far a training has come, counting epochs from 1 through all its phases."""

    epoch: int = 0
    phase: int = 0
    phase_start: int = 0  # epochs before this phase
    best_epoch: int = 0
    best_score: list[float] = field(default_factory=list)
    history: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    together: int = 1  # the largest number of stages in one pass with it, itself included

    def record(self, metrics: dict[str, float], monitor: str, seconds: float) -> bool:
        """Count an epoch; return whether it is the best so far. Without the figure to choose by, it is."""
        score = _score(metrics, monitor)
        self.epoch += 1
        self.seconds += seconds
        self.history.append(metrics)
        better = not self.best_score or score > self.best_score
        if better:
            self.best_epoch, self.best_score = self.epoch, score
        return better

    def begin(self, phase: int, epochs: int) -> bool:
        """Enter a phase of so many epochs; return whether any of it is left to train."""
        if phase > self.phase:
            self.phase, self.phase_start = phase, self.epoch
        return phase == self.phase and epochs > 0

    @property
    def epochs_of_phase(self) -> int:
        return self.epoch - self.phase_start

    def exhausted(self, patience: int | None) -> bool:
        """Whether `patience` epochs of this phase have passed without improvement."""
        since = self.epoch - max(self.best_epoch, self.phase_start)
        return patience is not None and since >= patience


def _score(metrics: dict[str, float], monitor: str) -> list[float]:
    """What makes an epoch better, the first number first: cross-entropy breaks ties of accuracy. Empty
    if no image was held back for validation."""
    if monitor not in metrics:
        return []
    if monitor == "val/accuracy":
        return [metrics["val/accuracy"], -metrics["val/cross_entropy"]]
    return [-metrics[monitor]]


class Saves:
    """When checkpoints are due: as often as saving takes SHARE of the time, and once a minute at least."""

    def __init__(self) -> None:
        self._due = time.monotonic()

    def are_due(self) -> bool:
        return time.monotonic() >= self._due

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Around the saving."""
        start = time.monotonic()
        yield
        took = time.monotonic() - start
        self._due = start + min(took / SHARE, SECONDS_BETWEEN_SAVES)


class Checkpoint:
    """Network, terms of the loss, optimizer, average, best weights and progress as one safetensors file."""

    def __init__(self, folder: Path, network: nn.Module, loss: nn.Module, device: torch.device) -> None:
        self.file = folder / CHECKPOINT
        self._new = self.file.with_suffix(".new")
        self.network, self.loss, self.device = network, loss, device
        self._best: dict[str, Tensor] = {}
        self._optimizer: dict[str, Tensor] = {}  # of the phase that was under way, as the average
        self._average: dict[str, Tensor] = {}

    def best(self) -> dict[str, Tensor]:
        return self._best

    def keep(self, average: AveragedModel | None = None) -> None:
        """Keep the weights, or their average, as the best so far."""
        shown = _contiguous((average.module if average else self.network).state_dict())
        # copying into the same memory is faster than allocating
        self._best = self._best or {name: torch.empty_like(tensor) for name, tensor in shown.items()}
        for name, tensor in shown.items():
            self._best[name].copy_(tensor)

    def write(
        self, progress: Progress, optimizer: torch.optim.Optimizer, average: AveragedModel | None = None
    ) -> None:
        """Write a checkpoint beside the last one, which `replace` then replaces in one step."""
        tensors = {
            **_prefixed("network", _contiguous(self.network.state_dict())),
            **_prefixed("best", self._best),
            **_prefixed("loss", _contiguous(self.loss.state_dict())),
            **_prefixed("optimizer", _contiguous(optimizer_tensors(optimizer))),
            **_prefixed("average", _contiguous(average.state_dict()) if average else {}),
        }
        try:
            text = json.dumps(asdict(progress))
            save_file(tensors, self._new, metadata={"progress": text, "sha256": _checksum(text, tensors)})
            share(self._new)
        except BaseException:  # whatever the reason, half a file would keep a full disk full
            self._new.unlink(missing_ok=True)
            raise

    def replace(self) -> None:
        self._new.replace(self.file)

    def load(self) -> Progress:
        """Restore all but optimizer and average as after the last epoch; without a file, a new Progress.

        The folder of the checkpoint exists afterwards.
        """
        folder = self.file.parent
        if not exists(folder) or (folder.is_dir() and not exists(self.file)):
            folder.mkdir(parents=True, exist_ok=True)
            return Progress()
        try:
            text, tensors = _read(self.file)
            progress = Progress(**json.loads(text))
            for part, module in (("network", self.network), ("loss", self.loss)):
                if _shapes(_part(part, tensors)) != _shapes(module.state_dict()):
                    raise ValueError(f"belongs to another {part}; a library may have another version")
        except Exception as error:  # a damaged file may raise anything in its reader
            log.warning("checkpoint %s cannot be used (%s); training starts anew", self.file, error)
            discard(self.file if folder.is_dir() else folder)
            folder.mkdir(parents=True, exist_ok=True)
            return Progress()
        self.network.load_state_dict(_part("network", tensors))
        self.loss.load_state_dict(_part("loss", tensors))
        self._best = {name: tensor.to(self.device) for name, tensor in _part("best", tensors).items()}
        self._optimizer = _part("optimizer", tensors)
        self._average = _part("average", tensors)
        return progress

    def restore(self, optimizer: torch.optim.Optimizer, average: AveragedModel | None = None) -> None:
        """Restore the memory of optimizer and average in the phase under way; a later one begins without."""
        restore_optimizer(optimizer, self._optimizer)
        if average and self._average:
            average.load_state_dict(self._average)
        self._optimizer, self._average = {}, {}


def _read(file: Path) -> tuple[str, dict[str, Tensor]]:
    """The progress, as JSON, and the tensors of a checkpoint. Raises ValueError if the checksum is wrong."""
    with safe_open(file, framework="pt") as stored:
        metadata = stored.metadata() or {}
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    if metadata.get("sha256") != _checksum(metadata.get("progress", ""), tensors):
        raise ValueError("wrong checksum")
    return metadata["progress"], tensors


def _shapes(weights: dict[str, Tensor]) -> dict[str, tuple[torch.dtype, torch.Size]]:
    return {name: (tensor.dtype, tensor.shape) for name, tensor in weights.items()}


def _checksum(progress: str, tensors: dict[str, Tensor]) -> str:
    """The digest of the progress, and of each tensor's name, type, shape and content."""
    digest = hashlib.sha256(progress.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as safetensors takes them: contiguous, and tied weights as copies."""
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
