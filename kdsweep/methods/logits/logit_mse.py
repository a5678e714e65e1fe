"""Matching logits (Buciluă, Caruana & Niculescu-Mizil 2006; Ba & Caruana 2014, arXiv:1312.6184)."""

from torch import Tensor


def logit_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """The squared difference of logits [B, C], averaged over images and classes."""
    return (student - teacher).square().mean()
