"""The moving average of a network's weights."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class MovingAverage(AveragedModel):
    """A copy of `network`, `module`, whose weights move by 1 - `decay` towards the network's in each step.

    The first step copies them. Buffers are averaged too, as torchvision's and timm's recipes do: the
    statistics of batch normalization are those of the current weights, and do not fit averaged ones. Counters
    are copied.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        average = get_ema_multi_avg_fn(decay)

        @torch.no_grad()
        def move(averaged: Sequence[Tensor], current: Sequence[Tensor], updates: Tensor | int) -> None:
            if averaged[0].is_floating_point():
                average(averaged, current, updates)
            else:
                for ours, theirs in zip(averaged, current, strict=True):
                    ours.copy_(theirs)

        super().__init__(network, multi_avg_fn=move, use_buffers=True)
        self._followed = [network]  # in a list, or it would be a part of this module

    def follow(self) -> None:
        """Take a step of the network's."""
        self.update_parameters(self._followed[0])
