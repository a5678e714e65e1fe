"""Squared difference and cosine of features against their formulas, number by number."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from kdsweep.methods.features.regression import FeatureCosine, FeatureMSE

TERMS = [FeatureMSE, FeatureCosine]
SHAPES = [
    ((3, 4), (3, 4)),
    ((3, 4), (3, 6)),
    ((3, 4, 2, 2), (3, 4, 2, 2)),
    ((3, 4, 2, 2), (3, 6, 4, 4)),
    ((3, 4, 4, 4), (3, 6, 2, 2)),
]


def features(seed: int, *shapes: tuple[int, ...]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def made(kind: type[nn.Module], student: torch.Tensor, teacher: torch.Tensor) -> nn.Module:
    torch.manual_seed(0)
    return kind(student.shape, teacher.shape).double()


def halved(values: np.ndarray) -> np.ndarray:
    """Maps of 4×4 pixels with each 2×2 averaged; anything else as it is."""
    if values.shape[2:] != (4, 4):
        return values
    return values.reshape(*values.shape[:2], 2, 2, 2, 2).mean((3, 5))


def vectors(term: nn.Module, student: torch.Tensor, teacher: torch.Tensor) -> list[tuple]:
    """Of each image and pixel the student's after its adapter, and the teacher's."""
    ours, theirs = (np.moveaxis(halved(each.numpy()), 1, -1) for each in (student, teacher))
    ours, theirs = (each.reshape(-1, each.shape[-1]) for each in (ours, theirs))
    if not isinstance(term.adapter, nn.Identity):
        weight, bias = (each.detach().numpy() for each in (term.adapter.weight, term.adapter.bias))
        ours = [weight.reshape(len(bias), -1) @ each + bias for each in ours]
    return list(zip(ours, theirs, strict=True))


@pytest.mark.parametrize("shapes", SHAPES)
@given(st.integers(0, 2**31 - 1))
def test_feature_mse_is_its_formula(shapes, seed):
    student, teacher = features(seed, *shapes)
    term = made(FeatureMSE, student, teacher)
    expected = np.mean([(a - b) ** 2 for a, b in vectors(term, student, teacher)])
    assert term(student, teacher).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("shapes", SHAPES)
@given(st.integers(0, 2**31 - 1))
def test_feature_cosine_is_its_formula(shapes, seed):
    student, teacher = features(seed, *shapes)
    term = made(FeatureCosine, student, teacher)
    pairs = vectors(term, student, teacher)
    expected = np.mean([1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in pairs])
    assert term(student, teacher).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("kind", TERMS)
def test_nothing_is_learned_where_widths_agree(kind):
    student, teacher = features(0, (3, 4), (3, 4))
    assert not list(made(kind, student, teacher).parameters())


@pytest.mark.parametrize("kind", TERMS)
@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 2, 2)])
def test_a_student_like_its_teacher_has_no_loss(kind, shape):
    (teacher,) = features(0, shape)
    assert made(kind, teacher, teacher)(teacher, teacher).item() == pytest.approx(0, abs=1e-12)


@given(st.integers(0, 2**31 - 1), st.floats(0.01, 100))
def test_lengths_do_not_change_the_cosine(seed, factor):
    student, teacher = features(seed, (3, 4), (3, 4))
    term = made(FeatureCosine, student, teacher)
    scaled = student * torch.tensor([1, factor, 2 * factor])[:, None]
    torch.testing.assert_close(term(scaled, 3 * teacher), term(student, teacher))


@pytest.mark.parametrize("kind", TERMS)
@pytest.mark.parametrize("shapes", [((2, 3), (2, 3, 4, 4)), ((2, 3, 4, 4), (2, 3)), ((2, 3, 4), (2, 3, 4))])
def test_a_map_against_a_vector_is_refused(kind, shapes):
    with pytest.raises(ValueError, match="taps=map or taps=embedding"):
        kind(*map(torch.Size, shapes))
