"""Dropout for stacked networks: each draws what its seed draws when it trains alone."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from kdsweep.stage import derive


class Draws:
    """What stages of these `seeds` draw, one by one; equal seeds draw the same.

    If all are equal, torch's own generator draws, as for a stage alone.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        self.seeds = list(dict.fromkeys(seeds))
        self.places = torch.tensor([self.seeds.index(seed) for seed in seeds], device=device)
        self.place = self.places[0]  # of the stage that runs; under vmap a tensor for all
        self.as_alone = device.type == "cpu"  # a GPU's own dropout draws otherwise
        one = len(self.seeds) == 1
        self._generators = [None if one else Generator(device) for _ in self.seeds]

    def begin(self, epoch: int) -> None:
        for seed, generator in zip(self.seeds, self._generators, strict=True):
            (torch if generator is None else generator).manual_seed(derive(seed, epoch, "dropout"))

    def kept(self, like: Tensor, shape: Sequence[int], share: float) -> Tensor:
        """A mask of `shape` that keeps so large a `share`, scaled to a mean of 1."""
        maps = len(shape) == 4  # laid out as training lays them out
        layout = torch.channels_last if maps else torch.contiguous_format
        masks = [
            torch.empty(tuple(shape), dtype=like.dtype, device=like.device, memory_format=layout)
            .bernoulli_(share, generator=generator)
            .div_(share)
            for generator in self._generators
        ]
        return masks[0] if len(masks) == 1 else torch.stack(masks).index_select(0, self.place[None])[0]


class _Dropout(nn.Module):
    def __init__(self, p: float, channels: bool, draws: Draws) -> None:
        super().__init__()
        self.p, self.channels, self.draws = p, channels, draws

    def forward(self, values: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return values
        if self.p == 1:
            return values * 0
        shape = [*values.shape[:2], *[1] * (values.dim() - 2)] if self.channels else values.shape
        return values * self.draws.kept(values, shape, 1 - self.p)


def own_dropout(network: nn.Module, draws: Draws) -> nn.Module:
    """The network with its dropouts, of values and of channels, in terms of `draws`."""
    for parent in list(network.modules()):
        # named_children() would skip one that is there twice
        for name, child in list(parent._modules.items()):
            if isinstance(child, _DropoutNd) and type(child) in (nn.Dropout, nn.Dropout2d):
                setattr(parent, name, _Dropout(child.p, type(child) is nn.Dropout2d, draws))
    return network
