"""Similarity-preserving distillation (Tung & Mori 2019, arXiv:1907.09682)."""

from torch import Tensor

from kdsweep.methods import of_whole_batch
from kdsweep.methods.shapes import need_features
from kdsweep.methods.vectors import unit


@of_whole_batch
def sp(student: Tensor, teacher: Tensor) -> Tensor:
    """The squared difference of the networks' similarities, averaged over all pairs of images, B².

    The similarities of an image are the products of its features, all channels and pixels of a map
    [B, C, H, W] or an embedding [B, D], with those of the batch's images, as a vector of length 1. Raises
    ValueError for what is neither.
    """
    need_features(student, teacher)
    return (_similarities(student) - _similarities(teacher)).square().mean()


def _similarities(features: Tensor) -> Tensor:
    """[B, B], rows of length 1."""
    flat = features.flatten(1)
    return unit(flat @ flat.T)
