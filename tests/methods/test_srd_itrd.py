"""SRD and ITRD against their formulas, one number and pair of images at a time, and at a perfect match."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdsweep.methods.features.srd import SRD, log_distance
from kdsweep.methods.relations.itrd import ITRD, correlation_loss, mutual_loss

seeds = st.integers(0, 2**31 - 1)


def embeddings(seed: int, rows: int = 5, widths: tuple[int, int] = (3, 4)) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(rows, width, generator=generator, dtype=torch.float64) for width in widths]


def made(kind: type[torch.nn.Module], batch: list[torch.Tensor], **options: float) -> torch.nn.Module:
    torch.manual_seed(0)
    return kind(*(each.shape for each in batch), **options).double()


def projected(term: torch.nn.Module, rows: torch.Tensor) -> np.ndarray:
    weight, bias = (each.detach().numpy() for each in (term.projection.weight, term.projection.bias))
    return np.array([weight @ row + bias for row in rows.numpy()])


def standardized(column: np.ndarray, epsilon: float, count: int) -> np.ndarray:
    variance = ((column - column.mean()) ** 2).sum() / count
    return (column - column.mean()) / np.sqrt(variance + epsilon)


@given(seeds, st.sampled_from([2.0, 4.0]))
def test_srd_is_its_formula(seed, exponent):
    batch = embeddings(seed)
    term = made(SRD, batch, exponent=exponent)
    ours, theirs, total = projected(term, batch[0]), batch[1].numpy(), 0.0
    for k in range(theirs.shape[1]):
        a, b = (standardized(each[:, k], 1e-4, len(ours)) for each in (ours, theirs))
        total += sum(abs(a - b) ** exponent)
    assert term(*batch).item() == pytest.approx(np.log(total + 1e-8), rel=1e-7, abs=1e-9)


@pytest.mark.parametrize("widths", [(3, 4), (4, 4)])
@given(seeds, st.floats(0.5, 3))
def test_itrd_is_its_formula(widths, seed, alpha):
    """The mutual part sees the student's own embedding where the widths agree."""
    batch = embeddings(seed, widths=widths)
    term = made(ITRD, batch, correlation=2.0, mutual=1.5, alpha=alpha)
    ours, theirs = projected(term, batch[0]), batch[1].numpy()
    rows, width = theirs.shape
    total = 0.0
    for k in range(width):
        a, b = (standardized(each[:, k], 0, rows - 1) for each in (ours, theirs))
        total += abs(1 - sum(a * b) / rows) ** (2 * alpha)
    ours = batch[0].numpy() if widths[0] == widths[1] else ours
    ours, theirs = ([row / np.linalg.norm(row) for row in each] for each in (ours, theirs))
    own = np.array([[a @ b for b in ours] for a in ours])
    joint = own * np.array([[a @ b for b in theirs] for a in theirs])
    mutual = ((own / np.trace(own)) ** 2).sum() - ((joint / np.trace(joint)) ** 2).sum()
    expected = 2 * np.log2(total + 1e-8) + 1.5 * mutual
    assert term(*batch).item() == pytest.approx(expected, rel=1e-7, abs=1e-9)


@given(seeds, st.floats(0.5, 100), st.floats(-10, 10))
def test_units_and_zeros_of_a_number_do_not_matter(seed, factor, shift):
    student, teacher = embeddings(seed, rows=8, widths=(4, 4))
    moved = student * torch.tensor([1, factor, 2 * factor, 3]) + shift
    torch.testing.assert_close(
        correlation_loss(moved, teacher, 1.01), correlation_loss(student, teacher, 1.01)
    )
    # SRD's variances have a small number added
    torch.testing.assert_close(
        log_distance(moved, teacher, 4.0), log_distance(student, teacher, 4.0), rtol=0, atol=0.01
    )


@given(seeds, st.floats(0.01, 100))
def test_directions_turned_together_have_the_same_mutual_information(seed, factor):
    student, teacher = embeddings(seed)
    turn = torch.linalg.qr(embeddings(seed, rows=3)[0]).Q
    scaled = student @ turn * torch.tensor([1, factor, 2, 3, 4])[:, None]
    torch.testing.assert_close(mutual_loss(scaled, teacher), mutual_loss(student, teacher))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_perfect_match_has_a_value_and_a_small_gradient(dtype):
    student, teacher = (each.to(dtype) for each in embeddings(0, widths=(4, 4)))
    student = teacher.clone().requires_grad_()
    losses = [log_distance(student, teacher, 4.0), correlation_loss(student, teacher, 1.01)]
    expected = [np.log(1e-8), np.log2(4 * (1 / 5) ** 2.02)]
    for loss, value in zip(losses, expected, strict=True):
        (gradient,) = torch.autograd.grad(loss, student)
        assert loss.item() == pytest.approx(value, rel=1e-5) and gradient.abs().max() < 10


@pytest.mark.parametrize("constant", [0.0, 0.1, -3e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_number_that_does_not_vary_has_a_correlation_of_0(dtype, constant):
    """Its deviation may be rounding; dividing by it would make noise as large as the other numbers."""
    student, teacher = (each.to(dtype) for each in embeddings(0, rows=7, widths=(4, 4)))
    rounding = 1e-7 * torch.tensor([1, -1, 1, -1, 1, -1, 1])
    student[:, 1], teacher[:, 2] = constant * (1 + rounding), constant
    student.requires_grad_()
    loss = correlation_loss(student, teacher, 1.01)
    (gradient,) = torch.autograd.grad(loss, student)
    rest = correlation_loss(student[:, [0, 3]], teacher[:, [0, 3]], 1.01)
    torch.testing.assert_close(loss.exp2(), rest.exp2() + 2)
    assert gradient[:, [1, 2]].eq(0).all() and gradient.isfinite().all()


@pytest.mark.parametrize("kind", [SRD, ITRD])
def test_maps_are_refused(kind):
    with pytest.raises(ValueError, match="taps=embedding"):
        kind(torch.Size((2, 3, 4, 4)), torch.Size((2, 3)))
