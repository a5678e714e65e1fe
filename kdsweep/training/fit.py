"""The training loop: tensors in memory, on the device, one stage at a time."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from kdsweep.config import Augment
from kdsweep.data.augment import augment
from kdsweep.data.dataset import Dataset
from kdsweep.errors import TrainingError
from kdsweep.models.build import build
from kdsweep.objectives import bind
from kdsweep.stage import Stage
from kdsweep.training.checkpoint import Checkpoint
from kdsweep.training.network import Inputs, logits, place, selection_metrics
from kdsweep.training.optimizers import make_optimizer, make_schedule

# Outputs of the teacher for the images at these indices: stored logits, or the network on the same batch.
Teaching = Callable[[Tensor, Tensor], Tensor | None]


@dataclass(frozen=True)
class Fitted:
    """Chosen weights and how they came about; `history` has one mapping of metrics per epoch."""

    weights: dict[str, Tensor]
    history: list[dict[str, float]]
    best_epoch: int
    seconds: float


def fit(
    stage: Stage,
    dataset: Dataset,
    teaching: Teaching,
    device: torch.device,
    unfinished: Path,
    on_epoch: Callable[[int, dict[str, float], float], None],
) -> Fitted:
    """Train `stage`, going on from the checkpoint in `unfinished` if there is one.

    The seed gives initial weights, batch order, augmentation and dropout; on one machine, with one number
    of threads, the CPU gives the same weights bit for bit, interrupted or not.
    Raises TrainingError if the loss is no longer a number.
    """
    recipe = stage.training
    with _own_randomness(stage.seed, device):
        network = place(build(stage.model, len(dataset.classes), dataset.shape), device)
        optimizer = make_optimizer(network.parameters(), recipe)
        order = torch.Generator().manual_seed(stage.seed)
        checkpoint = Checkpoint(unfinished, network, optimizer, order, device)
        progress = checkpoint.load()
        schedule = make_schedule(optimizer, recipe, progress.epoch)
        train = Inputs(dataset.train, dataset, device)
        val = Inputs(dataset.val, dataset, device)
        step = _step(network, optimizer, stage, teaching, train, order)

        while progress.epoch < recipe.epochs and not progress.exhausted(recipe.patience):
            start = time.perf_counter()
            network.train()
            losses = _epoch(step, _batches(len(train), recipe.batch_size, order))
            schedule.step()
            metrics = {**losses, **selection_metrics(logits(network, val), val.labels)}
            if not all(map(math.isfinite, metrics.values())):
                raise TrainingError(
                    f"the loss is no longer finite in epoch {progress.epoch + 1}; "
                    f"lower the learning rate, {recipe.learning_rate:g}"
                )
            better = progress.record(metrics, recipe.monitor, time.perf_counter() - start)
            checkpoint.save(progress, better)
            on_epoch(progress.epoch, metrics, time.perf_counter() - start)

        weights = checkpoint.best() if recipe.keep == "best" else network.state_dict()
        chosen = progress.best_epoch if recipe.keep == "best" else progress.epoch
    return Fitted(_plain(weights), progress.history, chosen, progress.seconds)


@contextlib.contextmanager
def _own_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """The global generators seeded for one stage, and put back for whoever used them before."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    stage: Stage,
    teaching: Teaching,
    train: Inputs,
    generator: torch.Generator,
) -> Callable[[Tensor], dict[str, Tensor]]:
    """One update from the images at the given indices; it returns the batch's losses, summed over images."""
    objective = bind(stage.objective)
    recipe = Augment.model_validate(stage.data["augment"])
    device = train.images.device
    mixed = device.type == "cuda" and stage.training.mixed_precision
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=mixed)

    def step(batch: Tensor) -> dict[str, Tensor]:
        indices = batch.to(device)
        images = train.images.index_select(0, indices)  # six times faster than train.images[indices]
        inputs = train.normalized(augment(images, recipe, generator))
        with autocast:
            taught = teaching(indices, inputs)
            outputs = network(inputs)
        losses = objective(outputs.float(), taught, train.labels[indices])
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        return {name: loss.detach() * len(batch) for name, loss in losses.items()}

    return step


def _batches(count: int, size: int, order: torch.Generator) -> list[Tensor]:
    """The indices of an epoch in a new order, without a last batch of one: BatchNorm cannot learn from it."""
    batches = list(torch.randperm(count, generator=order).split(size))
    return batches[:-1] if len(batches) > 1 and len(batches[-1]) == 1 else batches


def _epoch(step: Callable[[Tensor], dict[str, Tensor]], batches: list[Tensor]) -> dict[str, float]:
    """Train on every batch; the losses per image. They are summed on the device, which is not waited for."""
    totals: dict[str, Tensor] = {}
    for batch in batches:
        for part, loss in step(batch).items():
            totals[part] = totals[part] + loss if part in totals else loss
    images = sum(len(batch) for batch in batches)
    names = {part: "train/loss" if part == "loss" else f"train/loss_{part}" for part in totals}
    return {names[part]: total.item() / images for part, total in totals.items()}


def _plain(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights as they are stored: on the CPU, contiguous, no two sharing memory."""
    return {name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, tensor in weights.items()}  # fmt: skip
