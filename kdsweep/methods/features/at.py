"""Attention transfer (Zagoruyko & Komodakis 2016, arXiv:1612.03928), as its authors' code has it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from kdsweep.methods.shapes import same_sizes
from kdsweep.methods.vectors import unit


def at(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """The mean squared difference of attention maps over images and pixels, summed over the pairs of maps.

    An attention map is the mean of the squares over the channels of a map [B, C, H, W], as a vector of length
    1 for each image. The larger map of a pair is averaged to the smaller before it is squared. Raises
    ValueError unless both are lists of as many maps.
    """
    pairs = same_sizes(student, teacher)
    losses = [(_attention(ours) - _attention(theirs)).square().mean() for ours, theirs in pairs]
    return torch.stack(losses).sum()


def _attention(maps: Tensor) -> Tensor:
    """[B, H · W] of maps [B, C, H, W]."""
    return unit(maps.square().mean(1).flatten(1))
