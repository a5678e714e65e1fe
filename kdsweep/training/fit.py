"""The training loop: tensors in memory, on the device, one stage at a time."""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from kdsweep.config import Training
from kdsweep.data.dataset import Dataset
from kdsweep.data.mix import main_class
from kdsweep.data.split import UNLABELED
from kdsweep.errors import TrainingError
from kdsweep.methods import all_taps
from kdsweep.methods.loss import Loss
from kdsweep.methods.term import Batch, Setting
from kdsweep.networks import has_logits
from kdsweep.networks.build import build_initial
from kdsweep.networks.taps import Tapped, evaluating
from kdsweep.stage import TERMS, Stage, derive
from kdsweep.training.average import MovingAverage
from kdsweep.training.batches import batches
from kdsweep.training.checkpoint import Checkpoint
from kdsweep.training.frozen import cut, freeze
from kdsweep.training.frozen import train as set_train
from kdsweep.training.network import Batches, Inputs, features, logits, place, selection_metrics
from kdsweep.training.optimizers import make_optimizer, make_schedule
from kdsweep.training.teaching import Teaching


@dataclass(frozen=True)
class Fitted:
    """The chosen weights and their training; `history` has one mapping of metrics per epoch."""

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
    teacher: Callable[[], nn.Module] | None = None,
) -> Fitted:
    """Train `stage`, resuming from the checkpoint in `unfinished` if there is one.

    `teacher` gives the trained network whose head the stage's takes, if it takes one.

    The seed determines the initial weights, unless the file `initial` has them, and, derived for each epoch,
    batch order, augmentation, dropout and what terms draw; on one machine, with one number of threads, the
    CPU gives the same weights bit for bit, interrupted or not. Raises TrainingError if the loss is no longer
    a number, ConfigError for terms or taps that do not fit.
    """
    recipe = stage.training
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(stage.seed)
        classes, trained = len(dataset.classes), recipe.total_epochs > 0
        network = build_initial(stage.model, classes, dataset.shape, initial, trained)
        if teacher:
            network.take_head(teacher())  # type: ignore[operator]
        network = place(network, device)
        labeled = len(dataset.train.labels)
        train = Inputs(dataset.train, dataset, device, dataset.unlabeled if UNLABELED in stage.data else None)
        val = Inputs(dataset.val, dataset, device) if dataset.val else None
        student = Tapped(network, all_taps(stage.objective, "student"), train.first())
        loss = _loss(stage, student, train, labeled, teaching, classes)
        checkpoint = Checkpoint(unfinished, network, loss, device)
        progress = checkpoint.load()
        learnable = [parameter for parameter in network.parameters() if parameter.requires_grad]
        shown = network  # what is evaluated and kept

        for number, phase in enumerate(recipe.phases):
            if not progress.begin(number, phase.epochs):
                continue
            if progress.epoch and progress.epochs_of_phase == 0:
                network.load_state_dict(_kept(recipe, checkpoint, shown))
            freeze(network, phase.trainable, learnable)
            average = MovingAverage(network, recipe.ema) if recipe.ema else None
            shown = average.module if average else network
            learner = _learner(stage, student, train, val, shown)
            parts = [{"params": part.parameters()} for part in (network, loss)]
            optimizer = make_optimizer(parts, recipe, phase.learning_rate)
            checkpoint.restore(optimizer, average)
            schedule = make_schedule(optimizer, recipe, phase.epochs, progress.epochs_of_phase)
            while progress.epochs_of_phase < phase.epochs and not progress.exhausted(recipe.patience):
                start, epoch = time.perf_counter(), progress.epoch + 1
                torch.manual_seed(derive(stage.seed, epoch, "dropout"))
                set_train(network)
                loss.train()
                step = _step(learner, labeled, optimizer, average, loss, stage, teaching, epoch)
                order = batches(stage, train.labels[:labeled], len(train.labels), epoch)
                with teaching.epoch(epoch):
                    figures = _epoch(step, order)
                if UNLABELED in stage.data:  # terms have means over different images
                    terms = {name: figures.get(f"train/loss_{name}", 0.0) for name in loss.terms}
                    figures["train/loss"] = loss.weighted(terms, epoch, recipe.total_epochs)
                schedule.step()
                metrics = {**figures, **_selection(learner.shown, learner.val)}
                if not all(map(math.isfinite, metrics.values())):
                    raise TrainingError(
                        f"the loss is no longer finite in epoch {epoch}; "
                        f"lower the learning rate, {phase.learning_rate:g}"
                    )
                better = progress.record(metrics, recipe.monitor, time.perf_counter() - start)
                checkpoint.save(progress, optimizer, better, average)
                on_epoch(progress.epoch, metrics, time.perf_counter() - start)

        if not progress.history:  # without training the weights stay as in their file
            figures = _selection(network, val) if has_logits(stage.model) else {}
            with evaluating(network):
                looked_at = figures.values() or network(train.first()).flatten().tolist()
            if not all(map(math.isfinite, looked_at)):
                raise TrainingError("its weights give outputs that are NaN or infinity")
            progress.record(figures, "val/accuracy", 0.0)
        weights = _kept(recipe, checkpoint, shown)
        chosen = progress.best_epoch if recipe.keep == "best" else progress.epoch
    return Fitted(_plain(weights), progress.history, chosen, progress.seconds)


def _kept(recipe: Training, checkpoint: Checkpoint, shown: nn.Module) -> dict[str, Tensor]:
    """The weights that a training, or a phase, ends with."""
    return (recipe.keep == "best" and checkpoint.best()) or shown.state_dict()


def _loss(
    stage: Stage, student: Tapped, train: Inputs, labeled: int, teaching: Teaching, classes: int
) -> Loss:
    """The stage's loss; the outputs of student and teachers for two images shape its adapters."""
    images, indices = train.first(), torch.arange(2, device=train.labels.device) % len(train.labels)
    labels = train.labels[:labeled]

    @cache
    def example() -> Batch:
        with evaluating(student.network):
            return Batch(student(images), teaching.ask(indices, images), train.labels[indices], indices)

    @torch.no_grad()
    def training_images() -> Iterator[Batch]:
        everything = torch.arange(labeled, device=train.labels.device)
        for part in everything.split(train.evaluation_batch):
            taught = teaching.ask(part, train.batch(part))
            yield Batch(taught[0], taught, labels[part], part)

    met = len(stage.parents) if stage.average.of == TERMS else min(1, len(stage.parents))
    size, weights = stage.training.batch_size, stage.average.weights if met > 1 else ()
    setting = Setting(met, labels.cpu(), classes, size, example, training_images, weights)
    return Loss(stage.objective, setting, stage.seed).to(train.labels.device)


@dataclass(frozen=True)
class _Learner:
    """What runs in every epoch: the network on images or, behind a frozen front, the rest on features.

    `shown` is what is evaluated: the student, or the average of its weights.
    """

    student: Tapped
    train: Batches
    val: Batches | None
    shown: nn.Module


def _learner(stage: Stage, student: Tapped, train: Inputs, val: Inputs | None, shown: nn.Module) -> _Learner:
    halves = None if student.places else cut(student.network)  # a tap may lie before the cut
    if halves is None or stage.augment.random:
        return _Learner(student, train, val, shown)
    front, rest = halves
    learned, checked = features(front, train), features(front, val) if val else None
    if learned is None or (val and checked is None):
        return _Learner(student, train, val, shown)
    averaged = None if shown is student.network else cut(shown)
    return _Learner(Tapped(rest), learned, checked, averaged[1] if averaged else rest)


def _selection(network: nn.Module, val: Batches | None) -> dict[str, float]:
    """The figures on the validation split; empty if no image was held back for it."""
    return selection_metrics(logits(network, val), val.labels) if val else {}


Figures = dict[str, tuple[Tensor, int]]  # of a batch: means, and over how many images


def _step(
    learner: _Learner,
    labeled: int,
    optimizer: torch.optim.Optimizer,
    average: MovingAverage | None,
    loss: Loss,
    stage: Stage,
    teaching: Teaching,
    epoch: int,
) -> Callable[[Tensor], Figures]:
    """A function that makes one update from the images at its indices and returns the batch's figures.

    Of a batch with unlabelled images, which come last, those that need labels are of the `labeled` ones.
    """
    recipe = stage.augment
    labels, device = learner.train.labels, learner.train.labels.device
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=stage.training.mixed_precision)
    drawn = torch.Generator().manual_seed(derive(stage.seed, epoch, "augmentation"))
    epochs = stage.training.total_epochs
    learned = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    loss.begin(epoch)

    def step(indices: Tensor) -> Figures:
        with_labels = int((indices < labeled).sum())
        indices = indices.to(device)
        if isinstance(learner.train, Inputs):
            inputs, expected = learner.train.augmented(indices, recipe, drawn)
        else:
            inputs, expected = learner.train.batch(indices), labels[indices]
        with autocast:
            taught = teaching.ask(indices, inputs)
            outputs = learner.student(inputs)
        mixed = with_labels if UNLABELED in stage.data else None
        batch = Batch(outputs, taught, expected, indices, mixed)
        losses = loss(batch, epoch, epochs)
        optimizer.zero_grad()
        losses["loss"].backward()
        if stage.training.clip_norm:
            nn.utils.clip_grad_norm_(learned, stage.training.clip_norm)
        optimizer.step()
        if average:
            average.follow()
        figures = {"train/loss": (losses.pop("loss").detach(), len(indices))}
        for name, value in losses.items():
            figures[f"train/loss_{name}"] = value.detach(), loss.terms[name].images(batch)
        figures |= {f"train/{name}": (value.detach(), len(indices)) for name, value in loss.figures().items()}
        right = outputs.logits[:with_labels].argmax(dim=1).eq(main_class(expected[:with_labels]))
        figures["train/accuracy"] = right.float().mean(), with_labels
        return figures

    return step


def _epoch(step: Callable[[Tensor], Figures], batches: Sequence[Tensor]) -> dict[str, float]:
    """Train on every batch; return the figures per image. Summing on the device avoids waiting for it."""
    totals: dict[str, Tensor] = {}
    images: Counter[str] = Counter()
    for batch in batches:
        for name, (figure, count) in step(batch).items():
            if count:  # else no image of the batch has it
                total = figure * count
                totals[name] = totals[name] + total if name in totals else total
                images[name] += count
    return {name: total.item() / images[name] for name, total in totals.items()}


def _plain(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights for the store: on the CPU, contiguous, without shared memory."""
    return {name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, tensor in weights.items()}  # fmt: skip
