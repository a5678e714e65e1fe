"""Relations between the images of a batch against their formulas, one pair or triple of images at a time."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdsweep.methods.relations.pkt import pkt
from kdsweep.methods.relations.rkd import rkd
from kdsweep.methods.relations.sp import sp

BATCH = 4
seeds = st.integers(0, 2**31 - 1)


def both(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    return rkd(student, teacher, distance=25.0, angle=50.0)


def embeddings(seed: int, rows: int = BATCH) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    draw = [torch.randn(rows, width, generator=generator, dtype=torch.float64) for width in (3, 5)]
    return draw[0], draw[1]


def rotation(seed: int, width: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64)).Q


def smooth(difference: float) -> float:
    return difference**2 / 2 if abs(difference) < 1 else abs(difference) - 0.5


def unit(vector: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vector)
    return vector / length if length else vector


@given(seeds)
def test_sp_is_its_formula_for_maps_of_any_sizes(seed):
    generator = torch.Generator().manual_seed(seed)
    shapes = ((BATCH, 3, 4, 4), (BATCH, 5, 2, 2))
    features = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    flat = [each.numpy().reshape(BATCH, -1) for each in features]
    expected = 0.0
    for i in range(BATCH):
        ours, theirs = (unit(np.array([each[i] @ each[j] for j in range(BATCH)])) for each in flat)
        expected += ((ours - theirs) ** 2).sum() / BATCH**2
    assert sp(*features).item() == pytest.approx(expected, rel=1e-9)


@given(seeds)
def test_pkt_is_its_formula(seed):
    batch = embeddings(seed)
    expected = 0.0
    for i in range(BATCH):
        p, q = (
            np.array([(unit(each[i]) @ unit(each[j]) + 1) / 2 for j in range(BATCH)])
            for each in (batch[1].numpy(), batch[0].numpy())
        )
        p, q = p / p.sum(), q / q.sum()
        expected += sum(a * np.log((a + 1e-7) / (b + 1e-7)) for a, b in zip(p, q, strict=True)) / BATCH**2
    assert pkt(*batch).item() == pytest.approx(expected, rel=1e-9)


@given(seeds, st.floats(0, 100), st.sampled_from([0.0, 50.0]))
def test_rkd_is_its_formula(seed, distance, angle):
    student, teacher = (each.numpy() for each in embeddings(seed))
    apart = [np.array([[np.linalg.norm(a - b) for b in each] for a in each]) for each in (student, teacher)]
    apart = [each / each[each > 0].mean() for each in apart]
    expected = 0.0
    for i, j in product(range(BATCH), repeat=2):
        expected += distance * smooth(apart[0][i, j] - apart[1][i, j]) / BATCH**2
    for i, j, k in product(range(BATCH), repeat=3):
        ours, theirs = (unit(each[j] - each[i]) @ unit(each[k] - each[i]) for each in (student, teacher))
        expected += angle * smooth(ours - theirs) / BATCH**3
    loss = rkd(*embeddings(seed), distance=distance, angle=angle)
    assert loss.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("term", [sp, pkt, both])
@given(seeds)
def test_a_turned_and_scaled_teacher_has_no_loss(term, seed):
    """Rotations and one factor for all images change no relation."""
    student, _ = embeddings(seed)
    assert term(3 * student @ rotation(seed), student).item() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("term", [sp, pkt, both])
@given(seeds, st.permutations(range(BATCH)))
def test_the_order_of_images_does_not_matter(term, seed, order):
    student, teacher = embeddings(seed)
    torch.testing.assert_close(term(student[order], teacher[order]), term(student, teacher))


@given(seeds, st.floats(0.01, 100))
def test_an_images_scale_does_not_change_pkt(seed, factor):
    student, teacher = embeddings(seed)
    scaled = student * torch.tensor([1, factor, 1, 2 * factor])[:, None]
    torch.testing.assert_close(pkt(scaled, teacher), pkt(student, teacher))


@given(seeds, st.floats(-100, 100))
def test_a_shift_does_not_change_rkd(seed, shift):
    student, teacher = embeddings(seed)
    torch.testing.assert_close(both(student + shift, teacher), both(student, teacher))


def test_rkd_is_exact_for_embeddings_far_from_the_origin():
    """In float32, |a|² + |b|² − 2ab would leave nothing of such distances."""
    student, teacher = embeddings(0)
    shifted = (student + 4096).float()
    exact = both(shifted.double(), teacher)
    torch.testing.assert_close(both(shifted, teacher.float()).double(), exact, rtol=1e-5, atol=0)


def test_pkt_is_exact_in_float32_for_networks_alike():
    student, _ = embeddings(0, rows=64)
    student, teacher = student.float(), (student + 1e-3 * student.square()).float()
    exact = pkt(student.double(), teacher.double())
    torch.testing.assert_close(pkt(student, teacher).double(), exact, rtol=1e-6, atol=0)


@pytest.mark.parametrize("term", [sp, pkt, both])
def test_images_that_are_alike_or_dead_have_small_gradients(term):
    """Square roots of a clamped 0 and divisions by an epsilon have slopes of 1e5 and more."""
    student, teacher = embeddings(0)
    student[1] = student[0]
    student[2] = 0
    (gradient,) = torch.autograd.grad(term(student.requires_grad_(), teacher), student)
    assert gradient.abs().max() < 100


def test_two_images_have_the_relations_of_any_two():
    student, teacher = embeddings(0, rows=2)
    assert both(student, teacher).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("term", [sp, pkt, both])
def test_what_is_no_vector_per_image_is_refused(term):
    map_, vector = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3)
    for student, teacher in ((map_, vector), (vector, map_), ((vector, vector), (vector, vector))):
        with pytest.raises(ValueError, match="taps=embedding"):
            term(student, teacher)
