"""The batches of an epoch: which images, in which order."""

from collections.abc import Iterator
from itertools import repeat

import torch
from torch import Generator, Tensor

from kdsweep.data.split import UNLABELED
from kdsweep.data.unlabeled import Mix
from kdsweep.stage import Stage, derive


def batches(stage: Stage, labeled: int, unlabeled: int, epoch: int) -> list[Tensor]:
    """The indices of an epoch in its own order, without a last batch of one, which BatchNorm cannot use.

    Indices below `labeled` are of images with labels, which come first in their batches; the others follow.
    """
    order = _generator(stage, epoch, "order")
    size, use = stage.training.batch_size, stage.data.get(UNLABELED)
    if not use:
        drawn = list(torch.randperm(labeled, generator=order).split(size))
    else:
        others = _generator(stage, epoch, "order of unlabeled images")
        mix = Mix(labeled, unlabeled, use["share"], size)
        drawn = list((_once if mix.share is None else _by_share)(mix, order, others))
    return drawn[:-1] if len(drawn) > 1 and len(drawn[-1]) == 1 else drawn


def _generator(stage: Stage, epoch: int, purpose: str) -> Generator:
    return Generator().manual_seed(derive(stage.seed, epoch, purpose))


def _once(mix: Mix, order: Generator, others: Generator) -> Iterator[Tensor]:
    """Every image once, either kind spread evenly over the epoch."""
    counts = (mix.labeled, mix.unlabeled)
    kinds = torch.randperm(mix.labeled, generator=order), torch.randperm(mix.unlabeled, generator=others)
    places = torch.cat([(torch.arange(count).double() + 0.5) / count for count in counts])
    spread = torch.cat((kinds[0], mix.labeled + kinds[1]))[places.argsort(stable=True)]
    for batch in spread.split(mix.batch_size):
        yield batch[(batch >= mix.labeled).long().argsort(stable=True)]


def _by_share(mix: Mix, order: Generator, others: Generator) -> Iterator[Tensor]:
    """Batches with equal parts of a pass over each kind; no image is twice in a batch."""
    with_labels = _passes(mix.labeled, mix.passes[0], order)
    without = _passes(mix.unlabeled, mix.passes[1], others)
    for _ in range(mix.batches):
        yield torch.cat((next(with_labels), mix.labeled + next(without)))


def _passes(count: int, parts: int, generator: Generator) -> Iterator[Tensor]:
    """Pass after pass over `count` images, each in a new order and in so many parts; if 0, nothing."""
    if parts == 0:
        yield from repeat(torch.empty(0, dtype=torch.int64))
    while True:
        yield from torch.randperm(count, generator=generator).tensor_split(parts)
