"""Neuron selectivity transfer (Huang & Wang 2017, arXiv:1707.01219), with its polynomial kernel."""

from collections.abc import Sequence

import torch
from torch import Tensor

from kdsweep.methods.shapes import same_sizes
from kdsweep.methods.vectors import unit


def nst(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """The squared maximum mean discrepancy of the channels of maps [B, C, H, W], summed over the pairs.

    A channel is a vector of H · W numbers and length 1; the kernel of two is their squared product. The loss
    is the mean kernel among the teacher's channels, plus that among the student's, minus twice that between
    both, averaged over the images. The larger map of a pair is averaged to the smaller. Raises ValueError
    unless both are lists of as many maps.
    """
    pairs = same_sizes(student, teacher)
    return torch.stack([_discrepancy(_channels(ours), _channels(theirs)) for ours, theirs in pairs]).sum()


def _discrepancy(ours: Tensor, theirs: Tensor) -> Tensor:
    return _kernel(theirs, theirs) + _kernel(ours, ours) - 2 * _kernel(ours, theirs)


def _kernel(first: Tensor, second: Tensor) -> Tensor:
    """Its mean over images and pairs of channels, of [B, C, H · W] each."""
    return (first @ second.mT).square().mean()


def _channels(maps: Tensor) -> Tensor:
    return unit(maps.flatten(2))
