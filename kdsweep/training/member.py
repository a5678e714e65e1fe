"""A stage while it trains, alone or beside others: its network, loss, optimizer, checkpoint and progress."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from kdsweep.config import Phase
from kdsweep.data.dataset import Dataset
from kdsweep.data.split import UNLABELED
from kdsweep.errors import TrainingError
from kdsweep.methods import all_taps
from kdsweep.methods.loss import Loss
from kdsweep.methods.term import Batch, Setting
from kdsweep.networks import has_logits
from kdsweep.networks.build import build_initial
from kdsweep.networks.taps import Tapped, evaluating
from kdsweep.stage import TERMS, Stage
from kdsweep.training.average import MovingAverage
from kdsweep.training.checkpoint import Checkpoint
from kdsweep.training.frozen import cut, freeze
from kdsweep.training.network import Batches, Inputs, features, logits, place, selection_metrics
from kdsweep.training.optimizers import make_optimizer, make_schedule
from kdsweep.training.teaching import Teaching


@dataclass(frozen=True)
class Task:
    """A stage to train, resuming from the checkpoint in `unfinished` if there is one.

    `initial` is the file of its initial weights, if the seed does not give them; `teacher` gives the trained
    network whose head the stage's takes, if it takes one.
    """

    stage: Stage
    teaching: Teaching
    unfinished: Path
    on_epoch: Callable[[int, dict[str, float], float], None] = lambda *event: None
    initial: Path | None = None
    teacher: Callable[[], nn.Module] | None = None


@dataclass(frozen=True)
class Fitted:
    """The chosen weights and their training; `history` has one mapping of metrics per epoch, `together` is as
    in Progress."""

    weights: dict[str, Tensor]
    history: list[dict[str, float]]
    best_epoch: int
    seconds: float
    together: int = 1


class Data:
    """What stages learn from and are selected by; the first `labeled` images have labels."""

    def __init__(self, dataset: Dataset, device: torch.device, unlabeled: bool) -> None:
        self.device, self.shape, self.classes = device, dataset.shape, len(dataset.classes)
        self.labeled = len(dataset.train.labels)
        self.train = Inputs(dataset.train, dataset, device, dataset.unlabeled if unlabeled else None)
        self.val = Inputs(dataset.val, dataset, device) if dataset.val else None


@dataclass(frozen=True)
class Learner:
    """What runs in every epoch: the network on images or, behind a frozen front, the rest on features.

    `shown` is what is evaluated: the student, or the average of its weights.
    """

    student: Tapped
    train: Batches
    val: Batches | None
    shown: nn.Module


class Member:
    """`goes_on` says whether anything is left to train, and then `begin` prepares the phase under way."""

    learner: Learner
    optimizer: torch.optim.Optimizer

    def __init__(self, task: Task, data: Data) -> None:
        """Raises ConfigError for terms or taps that do not fit."""
        self.stage, self.teaching, self.data, self.on_epoch = task.stage, task.teaching, data, task.on_epoch
        self.recipe = task.stage.training
        torch.manual_seed(task.stage.seed)
        trained = self.recipe.total_epochs > 0
        network = build_initial(task.stage.model, data.classes, data.shape, task.initial, trained)
        if task.teacher:
            network.take_head(task.teacher())  # type: ignore[operator]
        self.network = self.shown = place(network, data.device)  # shown: what is evaluated and kept
        self.student = Tapped(self.network, all_taps(self.stage.objective, "student"), data.train.first())
        self.loss = _loss(self.stage, self.student, data, task.teaching)
        self.checkpoint = Checkpoint(task.unfinished, self.network, self.loss, data.device)
        self.progress = self.checkpoint.load()
        self.average: MovingAverage | None = None
        self.error = ""
        self._learnable = [each for each in self.network.parameters() if each.requires_grad]
        self._begun: int | None = None  # the phase whose optimizer this is
        if self.progress.epoch:
            self.begin()

    def goes_on(self) -> bool:
        """Enter the next phase if one is over; whether an epoch is left to train."""
        progress = self.progress
        for number, phase in enumerate(self.recipe.phases):
            if progress.begin(number, phase.epochs) and not self.error:
                left = progress.epochs_of_phase < phase.epochs
                if left and not progress.exhausted(self.recipe.patience):
                    return True
        return False

    @property
    def point(self) -> tuple[int, int, int]:
        """Where it is: stages at one point may train in one pass."""
        return self.progress.phase, self.progress.epochs_of_phase, self.progress.epoch

    @property
    def phase(self) -> Phase:
        return self.recipe.phases[self.progress.phase]

    def begin(self) -> None:
        """Prepare the phase under way, unless it is: what learns, the optimizer, the schedule."""
        number, phase, recipe = self.progress.phase, self.phase, self.recipe
        if self._begun == number:
            return
        if self.progress.epoch and self.progress.epochs_of_phase == 0:
            self.network.load_state_dict(self._kept())
        freeze(self.network, phase.trainable, self._learnable)
        self.average = MovingAverage(self.network, recipe.ema) if recipe.ema else None
        self.shown = self.average.module if self.average else self.network
        self.learner = _learner(self.stage, self.student, self.data, self.shown)
        parts = [{"params": part.parameters()} for part in (self.network, self.loss)]
        self.optimizer = make_optimizer(parts, recipe, phase.learning_rate)
        self.checkpoint.restore(self.optimizer, self.average)
        self._schedule = make_schedule(self.optimizer, recipe, phase.epochs, self.progress.epochs_of_phase)
        self._begun = number

    @property
    def sees_images(self) -> bool:
        """Whether the phase under way learns from images, not from the features of a frozen front."""
        return self.learner.train is self.data.train

    def end_epoch(self, figures: dict[str, float], seconds: float, together: int) -> None:
        """Step the schedule, validate, and count the epoch, unless its loss is not finite; `seconds` is this
        stage's share of the epoch's updates."""
        start, epoch = time.perf_counter(), self.progress.epoch + 1
        if UNLABELED in self.stage.data:  # terms have means over different images
            terms = {name: figures.get(f"train/loss_{name}", 0.0) for name in self.loss.terms}
            weights = self.loss.weights(epoch, self.recipe.total_epochs)
            figures["train/loss"] = self.loss.weighted(terms, weights)
        self._schedule.step()
        metrics = {**figures, **_selection(self.learner.shown, self.learner.val)}
        if not all(map(math.isfinite, metrics.values())):
            self.error = (
                f"the loss is no longer finite in epoch {epoch}; "
                f"lower the learning rate, {self.phase.learning_rate:g}"
            )
            return
        self.progress.together = max(self.progress.together, together)
        self._seconds = seconds + time.perf_counter() - start
        if self.progress.record(metrics, self.recipe.monitor, self._seconds):
            self.checkpoint.keep(self.average)

    def report(self) -> None:
        self.on_epoch(self.progress.epoch, self.progress.history[-1], self._seconds)

    def end(self) -> None:
        """Give back what only training needs; the features of a frozen front are large."""
        del self.learner, self.optimizer

    def fitted(self) -> Fitted:
        """The outcome, once nothing is left to train. Raises TrainingError if the loss was not finite."""
        if self.error:
            raise TrainingError(self.error)
        progress = self.progress
        if not progress.history:  # without training the weights stay as in their file
            figures = _selection(self.network, self.data.val) if has_logits(self.stage.model) else {}
            with evaluating(self.network):
                first = self.network(self.data.train.first())
            if not all(map(math.isfinite, figures.values() or first.flatten().tolist())):
                raise TrainingError("its weights give outputs that are NaN or infinity")
            progress.record(figures, "val/accuracy", 0.0)
        chosen = progress.best_epoch if self.recipe.keep == "best" else progress.epoch
        weights = _plain(self._kept())
        return Fitted(weights, progress.history, chosen, progress.seconds, progress.together)

    def _kept(self) -> dict[str, Tensor]:
        """The weights that a training, or a phase, ends with."""
        return (self.recipe.keep == "best" and self.checkpoint.best()) or self.shown.state_dict()


def _loss(stage: Stage, student: Tapped, data: Data, teaching: Teaching) -> Loss:
    """The stage's loss; the outputs of student and teachers for two images shape its adapters."""
    train, labels = data.train, data.train.labels[: data.labeled]
    images, indices = train.first(), torch.arange(2, device=data.device) % len(train.labels)

    @cache
    def example() -> Batch:
        with evaluating(student.network):
            return Batch(student(images), teaching.ask(indices, images), train.labels[indices], indices)

    @torch.no_grad()
    def training_images() -> Iterator[Batch]:
        for part in torch.arange(data.labeled, device=data.device).split(train.evaluation_batch):
            taught = teaching.ask(part, train.batch(part))
            yield Batch(taught[0], taught, labels[part], part)

    met = len(stage.parents) if stage.average.of == TERMS else min(1, len(stage.parents))
    size, weights = stage.training.batch_size, stage.average.weights if met > 1 else ()
    setting = Setting(met, labels.cpu(), data.classes, size, example, training_images, weights)
    return Loss(stage.objective, setting, stage.seed).to(data.device)


def _learner(stage: Stage, student: Tapped, data: Data, shown: nn.Module) -> Learner:
    train, val = data.train, data.val
    halves = None if student.places else cut(student.network)  # a tap may lie before the cut
    if halves is None or stage.augment.random:
        return Learner(student, train, val, shown)
    front, rest = halves
    learned, checked = features(front, train), features(front, val) if val else None
    if learned is None or (val and checked is None):
        return Learner(student, train, val, shown)
    averaged = None if shown is student.network else cut(shown)
    return Learner(Tapped(rest), learned, checked, averaged[1] if averaged else rest)


def _selection(network: nn.Module, val: Batches | None) -> dict[str, float]:
    """The figures on the validation split; empty if no image was held back for it."""
    return selection_metrics(logits(network, val), val.labels) if val else {}


def _plain(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights for the store: on the CPU, contiguous, without shared memory."""
    return {name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, tensor in weights.items()}  # fmt: skip
