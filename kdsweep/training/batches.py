"""The batches of an epoch: which images, in which order."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import repeat

import torch
from torch import Generator, Tensor

from kdsweep.data.split import UNLABELED
from kdsweep.data.unlabeled import Mix
from kdsweep.stage import Stage, derive

Pass = Callable[[Generator], Tensor]  # draws the images of a pass over one kind, in its order


def batches(stage: Stage, labels: Tensor, images: int, epoch: int) -> list[Tensor]:
    """The indices of an epoch in its own order, without a last batch of one, which BatchNorm cannot use.

    The first of so many `images` have `labels`, and come first in their batches; the others follow.
    """
    order, labeled = _generator(stage, epoch, "order"), len(labels)
    size, use = stage.training.batch_size, stage.data.get(UNLABELED)
    one_pass = partial(_balanced if stage.training.sampling == "balanced" else _shuffled, labels.cpu())
    if not use:
        drawn = list(one_pass(order).split(size))
    else:
        others = _generator(stage, epoch, "order of unlabeled images")
        mix = Mix(labeled, images - labeled, use["share"], size)
        drawn = list((_once if mix.share is None else _by_share)(mix, one_pass, order, others))
    return drawn[:-1] if len(drawn) > 1 and len(drawn[-1]) == 1 else drawn


def _generator(stage: Stage, epoch: int, purpose: str) -> Generator:
    return Generator().manual_seed(derive(stage.seed, epoch, purpose))


def _shuffled(labels: Tensor, generator: Generator) -> Tensor:
    return torch.randperm(len(labels), generator=generator)


def _balanced(labels: Tensor, generator: Generator) -> Tensor:
    """As many images as there are, each drawn anew: a class by chance, and one of its images."""
    shares = 1 / labels.bincount().double()[labels]
    return torch.multinomial(shares, len(labels), replacement=True, generator=generator)


def _once(mix: Mix, one_pass: Pass, order: Generator, others: Generator) -> Iterator[Tensor]:
    """Every image once, either kind spread evenly over the epoch."""
    counts = (mix.labeled, mix.unlabeled)
    kinds = one_pass(order), torch.randperm(mix.unlabeled, generator=others)
    places = torch.cat([(torch.arange(count).double() + 0.5) / count for count in counts])
    spread = torch.cat((kinds[0], mix.labeled + kinds[1]))[places.argsort(stable=True)]
    for batch in spread.split(mix.batch_size):
        yield batch[(batch >= mix.labeled).long().argsort(stable=True)]


def _by_share(mix: Mix, one_pass: Pass, order: Generator, others: Generator) -> Iterator[Tensor]:
    """Batches with equal parts of a pass over each kind."""
    with_labels = _passes(one_pass, mix.passes[0], order)
    without = _passes(partial(torch.randperm, mix.unlabeled), mix.passes[1], others)
    for _ in range(mix.batches):
        yield torch.cat((next(with_labels), mix.labeled + next(without)))


def _passes(one_pass: Callable[..., Tensor], parts: int, generator: Generator) -> Iterator[Tensor]:
    """Pass after pass, each in a new order and in so many parts; if 0, nothing."""
    if parts == 0:
        yield from repeat(torch.empty(0, dtype=torch.int64))
    while True:
        yield from one_pass(generator=generator).tensor_split(parts)
