"""The training loop: tensors in memory, on the device, one stage at a time."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from kdsweep.config import Augment, Phase
from kdsweep.data import Dataset
from kdsweep.errors import TrainingError
from kdsweep.methods import bind
from kdsweep.networks.build import build_initial
from kdsweep.stage import Stage
from kdsweep.training.checkpoint import Checkpoint
from kdsweep.training.frozen import cut, freeze
from kdsweep.training.frozen import train as set_train
from kdsweep.training.network import Batches, Inputs, features, logits, place, selection_metrics
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
    initial: Path | None = None,
) -> Fitted:
    """Train `stage`, going on from the checkpoint in `unfinished` if there is one.

    The seed gives initial weights, unless they are in the file `initial`, batch order, augmentation and
    dropout; on one machine, with one number of threads, the CPU gives the same weights bit for bit,
    interrupted or not. Raises TrainingError if the loss is no longer a number.
    """
    recipe = stage.training
    with _own_randomness(stage.seed, device):
        classes, trained = len(dataset.classes), recipe.total_epochs > 0
        network = place(build_initial(stage.model, classes, dataset.shape, initial, trained), device)
        order = torch.Generator().manual_seed(stage.seed)
        checkpoint = Checkpoint(unfinished, network, order, device)
        progress = checkpoint.load()
        learnable = [parameter for parameter in network.parameters() if parameter.requires_grad]
        train, val = Inputs(dataset.train, dataset, device), Inputs(dataset.val, dataset, device)

        for number, phase in enumerate(recipe.phases):
            if not progress.begin(number, phase.epochs):
                continue
            if progress.epochs_of_phase == 0 and recipe.keep == "best" and checkpoint.best():
                network.load_state_dict(checkpoint.best())
            freeze(network, phase.trainable, learnable)
            learner = _learner(stage, phase, network, train, val)
            optimizer = make_optimizer([{"params": network.parameters()}], recipe, phase.learning_rate)
            checkpoint.restore(optimizer)
            schedule = make_schedule(optimizer, recipe, phase.epochs, progress.epochs_of_phase)
            step = _step(learner, optimizer, stage, teaching, order)
            while progress.epochs_of_phase < phase.epochs and not progress.exhausted(recipe.patience):
                start = time.perf_counter()
                set_train(network)
                figures = _epoch(step, _batches(len(train.labels), recipe.batch_size, order))
                schedule.step()
                metrics = {**figures, **selection_metrics(logits(learner.network, learner.val), val.labels)}
                if not all(map(math.isfinite, metrics.values())):
                    raise TrainingError(
                        f"the loss is no longer finite in epoch {progress.epoch + 1}; "
                        f"lower the learning rate, {phase.learning_rate:g}"
                    )
                better = progress.record(metrics, recipe.monitor, time.perf_counter() - start)
                checkpoint.save(progress, optimizer, better)
                on_epoch(progress.epoch, metrics, time.perf_counter() - start)

        if not progress.history:  # nothing was to be trained: the weights are as they were given
            figures = selection_metrics(logits(network, val), val.labels)
            if not all(map(math.isfinite, figures.values())):
                raise TrainingError("its weights give outputs that are NaN or infinity")
            progress.record(figures, "val/accuracy", 0.0)
        weights = (recipe.keep == "best" and checkpoint.best()) or network.state_dict()
        chosen = progress.best_epoch if recipe.keep == "best" else progress.epoch
    return Fitted(_plain(weights), progress.history, chosen, progress.seconds)


@dataclass(frozen=True)
class _Learner:
    """What is run in every epoch: the network on images or, its frozen front being run once, the rest on
    features."""

    network: nn.Module
    train: Batches
    val: Batches


def _learner(stage: Stage, phase: Phase, network: nn.Module, train: Inputs, val: Inputs) -> _Learner:
    halves = cut(network)
    if halves is None or Augment.model_validate(stage.data["augment"]).random:
        return _Learner(network, train, val)
    front, rest = halves
    seen, checked = features(front, train), features(front, val)
    return _Learner(rest, seen, checked) if seen and checked else _Learner(network, train, val)


@contextlib.contextmanager
def _own_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """The global generators seeded for one stage, and put back for whoever used them before."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _step(
    learner: _Learner,
    optimizer: torch.optim.Optimizer,
    stage: Stage,
    teaching: Teaching,
    generator: torch.Generator,
) -> Callable[[Tensor], dict[str, Tensor]]:
    """One update from the images at the given indices; it returns the batch's figures, summed over images."""
    objective = bind(stage.objective)
    recipe = Augment.model_validate(stage.data["augment"])
    labels, device = learner.train.labels, learner.train.labels.device
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=stage.training.mixed_precision)

    def step(batch: Tensor) -> dict[str, Tensor]:
        indices = batch.to(device)
        if isinstance(learner.train, Inputs):
            inputs = learner.train.augmented(indices, recipe, generator)
        else:
            inputs = learner.train.batch(indices)
        with autocast:
            taught = teaching(indices, inputs)
            outputs = learner.network(inputs)
        outputs, expected = outputs.float(), labels[indices]
        losses = objective(outputs, taught, expected)
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        names = {part: "train/loss" if part == "loss" else f"train/loss_{part}" for part in losses}
        figures = {names[part]: loss.detach() for part, loss in losses.items()}
        figures["train/accuracy"] = outputs.argmax(dim=1).eq(expected).float().mean()
        return {name: figure * len(batch) for name, figure in figures.items()}

    return step


def _batches(count: int, size: int, order: torch.Generator) -> list[Tensor]:
    """The indices of an epoch in a new order, without a last batch of one: BatchNorm cannot learn from it."""
    batches = list(torch.randperm(count, generator=order).split(size))
    return batches[:-1] if len(batches) > 1 and len(batches[-1]) == 1 else batches


def _epoch(step: Callable[[Tensor], dict[str, Tensor]], batches: list[Tensor]) -> dict[str, float]:
    """Train on every batch; the figures per image. They are summed on the device, which is not waited for."""
    totals: dict[str, Tensor] = {}
    for batch in batches:
        for name, figure in step(batch).items():
            totals[name] = totals[name] + figure if name in totals else figure
    images = sum(len(batch) for batch in batches)
    return {name: total.item() / images for name, total in totals.items()}


def _plain(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights as they are stored: on the CPU, contiguous, no two sharing memory."""
    return {name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, tensor in weights.items()}  # fmt: skip
