"""Vectors of length 1."""

import pytest
import torch

from kdsweep.methods.vectors import over, unit


@pytest.mark.parametrize("dim", [1, 2, -1])
def test_they_have_length_1_along_the_dimension(dim):
    vectors = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(unit(vectors, dim).norm(dim=dim), torch.ones(vectors.norm(dim=dim).shape))


def test_zeros_stay_and_get_no_gradient():
    vectors = torch.tensor([[0.0, 0.0], [3.0, 4.0]], requires_grad=True)
    made = unit(vectors)
    (gradient,) = torch.autograd.grad(made.sum(), vectors)
    assert made.tolist() == [[0, 0], pytest.approx([0.6, 0.8])]
    assert gradient[0].tolist() == [0, 0] and gradient.isfinite().all()


def test_over_nothing_is_nothing():
    assert over(torch.tensor([2.0, 2.0]), torch.tensor([0.0, 4.0])).tolist() == [0, 0.5]
