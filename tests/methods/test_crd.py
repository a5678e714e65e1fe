"""CRD's term against its formula, one image and negative at a time; its memories; its negatives."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdsweep.methods.relations.crd import CRD

LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 2, 0])


def term(**options) -> CRD:
    torch.manual_seed(0)
    given = {"negatives": 5, "width": 4, **options}
    return CRD(torch.Size((2, 3)), torch.Size((2, 6)), LABELS, 3, **given).double()


def embeddings(seed: int, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    draw = [torch.randn(rows, width, generator=generator, dtype=torch.float64) for width in (3, 6)]
    return draw[0], draw[1]


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def projected(layer: torch.nn.Linear, rows: torch.Tensor) -> np.ndarray:
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    return unit(rows.numpy() @ weight.T + bias)


@given(st.integers(0, 2**31 - 1), st.integers(2, 5))
def test_it_is_its_formula(seed, rows):
    crd = term()
    student, teacher = embeddings(seed, rows)
    indices = torch.randperm(len(LABELS), generator=torch.Generator().manual_seed(seed))[:rows]
    labels = LABELS[indices]
    negatives = crd.others(labels, torch.rand(rows, 5, generator=torch.Generator().manual_seed(seed)))
    ours, theirs = projected(crd.student, student), projected(crd.teacher, teacher)
    memories = [each.clone().numpy() for each in (crd.teacher_memory, crd.student_memory)]
    noise, expected = 5 / len(LABELS), 0.0
    for rows_of, memory in zip((ours, theirs), memories, strict=True):
        scores = np.array(
            [
                [np.exp(rows_of[i] @ memory[j] / 0.07) for j in (int(indices[i]), *negatives[i].tolist())]
                for i in range(rows)
            ]
        )
        scores = scores / (scores.mean() * len(LABELS))
        for right, *wrong in scores:
            expected -= np.log(right / (right + noise + 1e-7)) / rows
            expected -= sum(np.log(noise / (each + noise + 1e-7)) for each in wrong) / rows
    loss = crd(student, teacher, labels, indices, torch.Generator().manual_seed(seed))
    assert loss.item() == pytest.approx(expected, rel=1e-7)
    for after, before, rows_of in (
        (crd.teacher_memory, memories[0], theirs),
        (crd.student_memory, memories[1], ours),
    ):
        wanted = before.copy()
        wanted[indices.numpy()] = unit(0.5 * before[indices.numpy()] + 0.5 * rows_of)
        np.testing.assert_allclose(after.numpy(), wanted, rtol=1e-9)


def test_the_normalizers_are_those_of_the_first_batch():
    crd = term()
    student, teacher = embeddings(0, 4)
    generator = torch.Generator().manual_seed(0)
    crd(student, teacher, LABELS[:4], torch.arange(4), generator)
    first = crd.normalizers.clone()
    crd(student, teacher, LABELS[4:], torch.arange(4, 8), generator)
    assert first.gt(0).all() and torch.equal(crd.normalizers, first)


def test_negatives_are_the_images_of_other_classes_evenly():
    crd = term()
    drawn = (torch.arange(5 * 1000) + 0.5) / 5000
    for label, others in ((0, 5), (1, 6), (2, 5)):
        rows = crd.others(torch.tensor([label]), drawn[None])[0]
        counts = rows.bincount(minlength=len(LABELS))
        assert counts[label == LABELS].eq(0).all()
        assert (counts[label != LABELS] - 5000 / others).abs().max() <= 1


def test_the_student_learns_by_it_and_the_teachers_embeddings_do_not():
    crd = term()
    student, teacher = embeddings(0, 4)
    loss = crd(student.requires_grad_(), teacher, LABELS[:4], torch.arange(4), torch.Generator())
    loss.backward()
    learned = [student, crd.student.weight, crd.teacher.weight]
    assert all(each.grad is not None and each.grad.abs().sum() > 0 for each in learned)
    assert not crd.student_memory.requires_grad


def test_images_of_one_class_alone_are_refused():
    with pytest.raises(ValueError, match="two classes"):
        CRD(torch.Size((2, 3)), torch.Size((2, 3)), torch.zeros(4, dtype=torch.int64), 3)


def test_maps_are_refused():
    with pytest.raises(ValueError, match="taps=embedding"):
        CRD(torch.Size((2, 3, 4, 4)), torch.Size((2, 3)), LABELS, 3)
