"""Variational information distillation (Ahn et al. 2019, arXiv:1904.05835)."""

from collections.abc import Sequence
from itertools import starmap

import torch
from torch import Size, Tensor, nn
from torch.nn import functional as F

from kdsweep.methods.shapes import need_several, same_size

EPSILON = 1e-5  # the least variance


class VID(nn.Module):
    """Σ over the pairs of stages of the mean of ½ ((μ(F_s) - F_t)² / σ² + log σ²), without its constant.

    The mean is that over images, channels and pixels of maps [B, C, H, W]; the larger map is averaged to the
    size of the smaller. μ is three 1×1 convolutions with ReLUs between them; σ² is a variance for each of the
    teacher's channels, which begins as `variance`. Both learn. The loss may be negative. Raises ValueError
    for a variance that is not above 1e-5, or for what is no list of maps.
    """

    def __init__(self, student: Sequence[Size], teacher: Sequence[Size], *, variance: float = 5.0) -> None:
        super().__init__()
        need_several(student, teacher)
        if variance <= EPSILON:
            raise ValueError(f"variance={variance}; allowed: above {EPSILON}")
        pairs = list(zip(student, teacher, strict=True))
        self.means = nn.ModuleList(_mean(ours[1], theirs[1]) for ours, theirs in pairs)
        start = torch.tensor(variance - EPSILON)
        before_softplus = start + (-torch.expm1(-start)).log()
        self.spreads = nn.ParameterList(before_softplus.repeat(theirs[1]) for _, theirs in pairs)

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        pairs = list(starmap(same_size, zip(student, teacher, strict=True)))
        losses = [
            _negative_log_likelihood(mean(ours), F.softplus(spread) + EPSILON, theirs)
            for mean, spread, (ours, theirs) in zip(self.means, self.spreads, pairs, strict=True)
        ]
        return torch.stack(losses).sum()


def _mean(inputs: int, outputs: int) -> nn.Sequential:
    widths = (inputs, outputs, outputs)
    first, second, third = (nn.Conv2d(width, outputs, 1, bias=False) for width in widths)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third)


def _negative_log_likelihood(mean: Tensor, variance: Tensor, target: Tensor) -> Tensor:
    """Of a normal distribution with one variance per channel, without the constant ½ log 2π; a scalar."""
    variance = variance[:, None, None]
    return 0.5 * ((mean - target).square() / variance + variance.log()).mean()
