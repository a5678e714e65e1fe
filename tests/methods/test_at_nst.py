"""Attention transfer and neuron selectivity transfer against their formulas, image by image."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdsweep.methods.features.at import at
from kdsweep.methods.features.nst import nst

TERMS = [at, nst]
seeds = st.integers(0, 2**31 - 1)


def maps(seed: int, *shapes: tuple[int, ...]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def pairs(seed: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Two stages of each network; in the first the student's is larger, in the second the teacher's."""
    student = maps(seed, (3, 2, 4, 4), (3, 4, 2, 2))
    return student, maps(seed + 1, (3, 5, 2, 2), (3, 3, 4, 4))


def halved(values: np.ndarray) -> np.ndarray:
    """A map [C, H, W] with each 2×2 pixels averaged."""
    channels, height, width = values.shape
    return values.reshape(channels, height // 2, 2, width // 2, 2).mean((2, 4))


def of_one_size(student: torch.Tensor, teacher: torch.Tensor) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each image's maps."""
    both = zip(student.numpy(), teacher.numpy(), strict=True)
    return [tuple(halved(each) if each.shape[1] == 4 else each for each in pair) for pair in both]


def attention(values: np.ndarray) -> np.ndarray:
    squares = sum(channel**2 for channel in values) / len(values)
    return squares.ravel() / np.sqrt((squares**2).sum())


def kernel(first: np.ndarray, second: np.ndarray) -> float:
    unit = [[channel.ravel() / np.linalg.norm(channel) for channel in each] for each in (first, second)]
    return float(np.mean([[(a @ b) ** 2 for a in unit[0]] for b in unit[1]]))


@given(seeds)
def test_at_is_its_formula(seed):
    student, teacher = pairs(seed)
    expected = 0.0
    for stage in zip(student, teacher, strict=True):
        images = of_one_size(*stage)
        expected += np.mean([(attention(ours) - attention(theirs)) ** 2 for ours, theirs in images])
    assert at(student, teacher).item() == pytest.approx(expected, rel=1e-9)


@given(seeds)
def test_nst_is_its_formula(seed):
    student, teacher = pairs(seed)
    expected = 0.0
    for stage in zip(student, teacher, strict=True):
        for ours, theirs in of_one_size(*stage):
            same = kernel(ours, ours) + kernel(theirs, theirs)
            expected += (same - 2 * kernel(ours, theirs)) / 3
    assert nst(student, teacher).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("term", TERMS)
@given(seeds)
def test_a_student_like_its_teacher_has_no_loss_whatever_the_order_of_channels(term, seed):
    (teacher,) = maps(seed, (3, 4, 3, 3))
    order = torch.randperm(4, generator=torch.Generator().manual_seed(seed))
    assert term([teacher[:, order]], [teacher]).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("term", TERMS)
@given(seeds)
def test_the_order_of_channels_does_not_matter(term, seed):
    student, teacher = maps(seed, (3, 4, 3, 3), (3, 6, 3, 3))
    order = torch.randperm(4, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(term([student[:, order]], [teacher]), term([student], [teacher]))


@given(seeds, st.floats(0.01, 100))
def test_an_images_scale_does_not_change_at(seed, factor):
    student, teacher = maps(seed, (3, 4, 3, 3), (3, 6, 3, 3))
    scaled = student * torch.tensor([1, factor, 2 * factor])[:, None, None, None]
    torch.testing.assert_close(at([scaled], [teacher]), at([student], [teacher]))


@given(seeds, st.floats(-100, -0.01))
def test_a_channels_scale_does_not_change_nst(seed, factor):
    """Nor does its sign: the kernel is squared."""
    student, teacher = maps(seed, (3, 4, 3, 3), (3, 6, 3, 3))
    scaled = student * torch.tensor([1, factor, 2 * factor, -1])[:, None, None]
    torch.testing.assert_close(nst([scaled], [teacher]), nst([student], [teacher]))


@pytest.mark.parametrize("term", TERMS)
def test_dead_channels_get_no_gradient(term):
    student, teacher = maps(0, (3, 4, 3, 3), (3, 4, 3, 3))
    student[:, 1] = 0
    loss = term([student.requires_grad_()], [teacher])
    (gradient,) = torch.autograd.grad(loss, student)
    assert gradient[:, 1].eq(0).all() and gradient[:, 0].abs().sum() > 0


@pytest.mark.parametrize("term", TERMS)
def test_lists_that_do_not_fit_are_refused(term):
    one, two = maps(0, (3, 4, 3, 3), (3, 4))
    with pytest.raises(ValueError, match="taps=stages"):
        term(one, one)
    with pytest.raises(ValueError, match="a map"):
        term([two], [two])
    with pytest.raises(ValueError, match="got 2 and 1"):
        term([one, one], [one])
