"""FitNet's term against its formula, and the maps that it takes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from kdsweep.methods.features.fitnet import FitNet


def maps(seed: int, student: tuple[int, ...], teacher: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(size, generator=generator, dtype=torch.float64) for size in (student, teacher))


@given(st.integers(0, 2**31 - 1), st.booleans())
def test_it_is_its_formula(seed, relu):
    """A 1×1 convolution, batch normalization over images and pixels, a ReLU, and the mean of squares."""
    student, teacher = maps(seed, (3, 2, 4, 4), (3, 5, 4, 4))
    term = FitNet(student.shape, teacher.shape, relu=relu).double()
    convolution = term.regressor[0]
    weight, bias = (each.detach().numpy() for each in (convolution.weight[:, :, 0, 0], convolution.bias))
    made = np.einsum("oc,bchw->bohw", weight, student.numpy()) + bias[None, :, None, None]
    mean, variance = made.mean((0, 2, 3), keepdims=True), made.var((0, 2, 3), keepdims=True)
    made = (made - mean) / np.sqrt(variance + 1e-5)
    made = np.maximum(made, 0) if relu else made
    assert term(student, teacher).item() == pytest.approx(((made - teacher.numpy()) ** 2).mean(), rel=1e-9)


@pytest.mark.parametrize(
    ("student", "teacher", "kind"),
    [
        ((2, 3, 8, 8), (2, 4, 4, 4), nn.Conv2d),
        ((2, 3, 4, 4), (2, 4, 8, 8), nn.ConvTranspose2d),
        ((2, 3, 7, 6), (2, 4, 5, 5), nn.Conv2d),
        ((2, 3, 1, 1), (2, 4, 1, 1), nn.Conv2d),
    ],
)
def test_maps_of_other_sizes_are_brought_to_the_teachers(student, teacher, kind):
    term = FitNet(torch.Size(student), torch.Size(teacher))
    assert isinstance(term.regressor[0], kind)
    assert term.regressor(torch.randn(student)).shape == teacher


@pytest.mark.parametrize("teacher", [(2, 4, 9, 9), (2, 4, 5, 3), (2, 4)])
def test_what_does_not_fit_is_refused(teacher):
    with pytest.raises(ValueError, match=r"other taps|a map"):
        FitNet(torch.Size((2, 3, 4, 4)), torch.Size(teacher))


def test_the_gradient():
    student, teacher = maps(0, (2, 2, 4, 4), (2, 3, 2, 2))
    term = FitNet(student.shape, teacher.shape, relu=False).double()
    assert torch.autograd.gradcheck(lambda features: term(features, teacher), student.requires_grad_())
