"""The updates of an epoch of several stages in one pass, by torch.func: `functional_call` under `vmap`.

Each network's own parameters are views of the stacked ones. So all that a stage does beside its updates,
to validate, to save, to end, it does as if it were alone.
"""

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call, vmap

from kdsweep.data.split import UNLABELED
from kdsweep.methods import OF_EVERY_TERM, WEIGHT
from kdsweep.methods.term import Batch, Outputs
from kdsweep.networks.taps import Tapped
from kdsweep.stage import Stage, derive
from kdsweep.training.alone import Figures, figures_of, per_image
from kdsweep.training.batches import batches
from kdsweep.training.dropout import Draws, own_dropout
from kdsweep.training.frozen import train as set_train
from kdsweep.training.member import Member
from kdsweep.training.side_by_side import StackedOptimizer, rates, stack

NETWORK = "network"  # the prefix of a stacked network's weights
Numbers = Mapping[str, Mapping[str, Tensor]]  # by term and option, [members]


@contextmanager
def unadvised() -> Iterator[None]:
    """Without torch's warning that an operation has no batching rule and is slow: trials have measured it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
        yield


class Stacked:
    """Trains members that are at one point of one recipe. Where seeds and teachers are equal, they share
    the images and what the teachers say of them."""

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = sorted(members, key=rates)
        self.first, self.data = self.members[0], members[0].data
        networks = [member.network for member in self.members]
        network = copy.deepcopy(networks[0])
        self.weights = stack([dict(each.named_parameters(NETWORK)) for each in networks])
        self.buffers = stack([dict(each.named_buffers(NETWORK)) for each in networks])
        self.optimizer = StackedOptimizer(self.members, self.weights)
        self.draws = Draws([member.stage.seed for member in self.members], self.data.device)
        self.student = _Student(self.first.student.of(own_dropout(network, self.draws)))
        self.options = _own_options([member.stage for member in self.members], self.data.device)
        self.stages = {member.stage.seed: member.stage for member in self.members}
        self.classes = {_class(member): member for member in self.members}  # one of each

    def epoch(self) -> list[dict[str, float]]:
        """Train on every batch; return each member's figures per image."""
        epoch = self.first.progress.epoch + 1
        step = self.begin(epoch)
        with ExitStack() as entered:
            for one in self.classes.values():
                entered.enter_context(one.teaching.epoch(epoch))
            figures = per_image(map(step, self.batches(epoch)))
        self.optimizer.share()
        count = len(self.members)
        return [{name: values[place] for name, values in figures.items()} for place in range(count)]

    def batches(self, epoch: int) -> Sequence[Sequence[Tensor]]:
        """The indices of each batch, for each seed."""
        labels, images = self.data.train.labels[: self.data.labeled], len(self.data.train.labels)
        orders = [batches(stage, labels, images, epoch) for stage in self.stages.values()]
        return list(zip(*orders, strict=True))

    def begin(self, epoch: int) -> Callable[[Sequence[Tensor]], Figures]:
        """A function that makes one update of all networks from the images at the indices of each seed."""
        self.draws.begin(epoch)
        set_train(self.student.network)
        self.first.loss.train()
        self.optimizer.follow()
        recipe = self.first.stage.training
        device = self.data.device.type
        autocast = torch.autocast(device, torch.bfloat16, enabled=recipe.mixed_precision)
        drawn = [Generator().manual_seed(derive(seed, epoch, "augmentation")) for seed in self.stages]
        numbers = self._numbers(epoch)

        def step(indices: Sequence[Tensor]) -> Figures:
            with_labels = int((indices[0] < self.data.labeled).sum())
            mixed = with_labels if UNLABELED in self.first.stage.data else None
            counts: dict[str, int] = {}
            with autocast:
                like, given = self._given(indices, drawn)

                def one(
                    weights: Mapping[str, Tensor], numbers: Numbers, place: Tensor, *tensors: Tensor
                ) -> tuple[Tensor, dict[str, Tensor]]:
                    inputs, labels, indices, *rest = tensors
                    outputs = self._outputs(weights, place, inputs)
                    left = iter(rest)
                    batch = Batch(outputs, [_filled(each, left) for each in like], labels, indices, mixed)
                    losses = self.first.loss(batch, epoch, recipe.total_epochs, numbers)
                    figures = figures_of(losses, batch, self.first.loss, with_labels)
                    counts.update({name: count for name, (_, count) in figures.items()})
                    return losses["loss"], {name: figure for name, (figure, _) in figures.items()}

                dims = (0, 0, 0, *(0 if several else None for _, several in given))
                run = vmap(one, dims, randomness="same")
                tensors = [tensor for tensor, _ in given]
                losses, figures = run({**self.weights, **self.buffers}, numbers, self.draws.places, *tensors)
            self.optimizer.step(losses.sum(), recipe.clip_norm)
            for member in self.members:
                if member.average:
                    member.average.follow()
            return {name: (figure, counts[name]) for name, figure in figures.items()}

        return step

    def _given(
        self, indices: Sequence[Tensor], drawn: Sequence[Generator]
    ) -> tuple[Sequence[Outputs], list[tuple[Tensor, bool]]]:
        """What members look at in a step: the outputs of one's teachers, as an example, and inputs, labels,
        indices and all tensors of the outputs, each with whether it has a first dimension of members."""
        recipe = self.first.stage.augment
        of_seed: dict[int, tuple[Tensor, ...]] = {}
        for seed, part, generator in zip(self.stages, indices, drawn, strict=True):
            part = part.to(self.data.device)
            of_seed[seed] = *self.data.train.augmented(part, recipe, generator), part
        taught = {
            which: one.teaching.ask(of_seed[one.stage.seed][2], of_seed[one.stage.seed][0])
            for which, one in self.classes.items()
        }
        seen = [of_seed[member.stage.seed] for member in self.members]
        said = [
            [tensor for each in taught[_class(member)] for tensor in _tensors(each)]
            for member in self.members
        ]
        columns = zip(*((*images, *outputs) for images, outputs in zip(seen, said, strict=True)), strict=True)
        return taught[_class(self.first)], [_joined(each) for each in columns]

    def _outputs(self, weights: Mapping[str, Tensor], place: Tensor, inputs: Tensor) -> Outputs:
        """The outputs of one student, under vmap."""
        self.draws.place = place
        outputs: Outputs = functional_call(self.student, dict(weights), (inputs,))
        return outputs

    def _numbers(self, epoch: int) -> Numbers:
        """What an epoch's terms take in place of the first member's numbers, where they differ."""
        epochs, numbers = self.first.stage.training.total_epochs, {}
        weights = [member.loss.weights(epoch, epochs) for member in self.members]
        for name, options in self.options.items():
            own = [each[name] for each in weights]
            differ = {WEIGHT: torch.tensor(own, device=self.data.device)} if len({*own}) > 1 else {}
            numbers[name] = {**options, **differ}
        return numbers


class _Student(nn.Module):
    """A network with its taps as a module, for functional_call."""

    def __init__(self, tapped: Tapped) -> None:
        super().__init__()
        self.network, self._call = tapped.network, tapped.__call__

    def forward(self, inputs: Tensor) -> Outputs:
        return self._call(inputs)


def _class(member: Member) -> tuple[Any, ...]:
    """What members that sit in one class have in common: the images and the teachers."""
    return member.stage.seed, *(parent.key for parent in member.stage.parents)


def _own_options(stages: Sequence[Stage], device: torch.device) -> dict[str, dict[str, Tensor]]:
    """The numbers of each term that differ between stages, float64 [stages]."""
    return {
        name: {
            key: torch.tensor(
                [stage.objective[name][key] for stage in stages], dtype=torch.float64, device=device
            )
            for key in term
            if key not in OF_EVERY_TERM and len({repr(stage.objective[name][key]) for stage in stages}) > 1
        }
        for name, term in stages[0].objective.items()
    }


def _tensors(outputs: Outputs) -> Iterator[Tensor]:
    yield outputs.logits
    for values in outputs.taps.values():
        yield from values


def _filled(like: Outputs, tensors: Iterator[Tensor]) -> Outputs:
    """Outputs like these, of the next tensors."""
    logits = next(tensors)
    return Outputs(logits, {name: tuple(next(tensors) for _ in values) for name, values in like.taps.items()})


def _joined(tensors: Sequence[Tensor]) -> tuple[Tensor, bool]:
    """The tensors of all members as one, [members, …], unless all are the same."""
    same = all(each is tensors[0] for each in tensors)
    return (tensors[0], False) if same else (torch.stack(list(tensors)), True)
