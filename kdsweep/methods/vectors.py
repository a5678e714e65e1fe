"""Vectors of length 1, as relations and directions are made of."""

import torch
from torch import Tensor


def unit(vectors: Tensor, dim: int = -1) -> Tensor:
    """The vectors along `dim`, divided by their lengths.

    A vector of zeros stays one and gets no gradient; dividing by an epsilon would give it an enormous one.
    """
    return over(vectors, torch.linalg.vector_norm(vectors, dim=dim, keepdim=True))


def over(values: Tensor, size: Tensor) -> Tensor:
    """`values / size`, and 0 without a gradient where the size is 0."""
    return values / size.masked_fill(size == 0, torch.inf)
