"""ICKD's term against its formula, image by image, and what its correlations do not see."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdsweep.methods.relations.ickd import ICKD, correlations

seeds = st.integers(0, 2**31 - 1)


def maps(seed: int, *shapes: tuple[int, ...]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def term(student: torch.Tensor, teacher: torch.Tensor) -> ICKD:
    torch.manual_seed(0)
    return ICKD(student.shape, teacher.shape).double()


def unit_rows(gram: np.ndarray) -> np.ndarray:
    return np.array([row / np.sqrt(sum(each**2 for each in row)) for row in gram])


@given(seeds)
def test_it_is_its_formula_for_maps_of_any_sizes(seed):
    student, teacher = maps(seed, (3, 2, 4, 4), (3, 5, 2, 2))
    made = term(student, teacher)
    weight = made.adapter[0].weight.detach().numpy()[:, :, 0, 0]
    adapted = np.einsum("oc,bchw->bohw", weight, student.numpy())
    mean, variance = adapted.mean((0, 2, 3), keepdims=True), adapted.var((0, 2, 3), keepdims=True)
    adapted = (adapted - mean) / np.sqrt(variance + 1e-5)
    expected = 0.0
    for ours, theirs in zip(adapted, teacher.numpy(), strict=True):
        grams = [[[(a * b).sum() for b in each] for a in each] for each in (ours, theirs)]
        rows = [unit_rows(np.array(gram)) for gram in grams]
        expected += ((rows[0] - rows[1]) ** 2).sum() / (3 * 5)
    assert made(student, teacher).item() == pytest.approx(expected, rel=1e-9)


@given(seeds, st.permutations(range(9)))
def test_the_order_of_pixels_does_not_matter(seed, order):
    student, teacher = maps(seed, (3, 2, 3, 3), (3, 5, 3, 3))
    made = term(student, teacher)
    mixed = [each.flatten(2)[..., order].reshape(each.shape) for each in (student, teacher)]
    torch.testing.assert_close(made(*mixed), made(student, teacher))


@given(seeds, st.floats(0.01, 100))
def test_an_images_scale_does_not_matter(seed, factor):
    (values,) = maps(seed, (3, 5, 3, 3))
    scaled = values * torch.tensor([1, factor, 2 * factor])[:, None, None, None]
    torch.testing.assert_close(correlations(scaled), correlations(values))


def test_dead_channels_get_no_gradient():
    (values,) = maps(0, (3, 5, 3, 3))
    values[:, 1] = 0
    rows = correlations(values.requires_grad_())
    (gradient,) = torch.autograd.grad(rows.square()[:, 2:].sum() + rows[:, 1].sum(), values)
    assert rows[:, 1].eq(0).all() and gradient.isfinite().all()


def test_vectors_are_refused():
    with pytest.raises(ValueError, match="a map"):
        ICKD(torch.Size((2, 3)), torch.Size((2, 3, 4, 4)))
