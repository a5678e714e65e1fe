"""RLD's term against its formula, one image and class at a time."""

import numpy as np
import pytest
import torch
from formulas import kl, random_batch, softmax
from hypothesis import given
from hypothesis import strategies as st

from kdsweep.methods.logits.rld import rld

seeds = st.integers(0, 2**31 - 1)
PLAIN = {"temperature": 4.0, "alpha": 1.0, "beta": 8.0, "label_temperature": 1.0}


@given(
    seeds, st.floats(0.5, 16), st.floats(0.5, 4), st.floats(0, 8), st.floats(0, 8), st.sampled_from([2, 5])
)
def test_rld_is_its_formula(seed, temperature, of_label, alpha, beta, classes):
    student, teacher, labels = random_batch(seed, classes=classes)
    losses = []
    for s, t, label in zip(student.numpy(), teacher.numpy(), labels.tolist(), strict=True):
        p, q = softmax(t / of_label).max(), softmax(s / of_label)[label]
        loss = alpha * of_label**2 * kl(np.array([p, 1 - p]), np.array([q, 1 - q]))
        if below := [c for c in range(classes) if t[c] < t[label]]:
            loss += (
                beta * temperature**2 * kl(softmax(t[below] / temperature), softmax(s[below] / temperature))
            )
        losses.append(loss)
    loss = rld(
        student,
        teacher,
        labels,
        temperature=temperature,
        alpha=alpha,
        beta=beta,
        label_temperature=of_label,
    )
    assert loss.item() == pytest.approx(np.mean(losses), rel=1e-6, abs=1e-9)


@given(seeds)
def test_rld_is_zero_for_equal_networks_where_the_teacher_is_right(seed):
    _, teacher, labels = random_batch(seed)
    best = teacher.argmax(1)
    assert rld(teacher, teacher, best, **PLAIN).item() == pytest.approx(0, abs=1e-9)
    if not labels.equal(best):
        assert rld(teacher, teacher, labels, **PLAIN).item() > 0


@given(seeds)
def test_the_teachers_classes_above_the_label_teach_only_by_the_largest(seed):
    """Of wrong classes above the label the order makes no difference."""
    student, teacher, _ = random_batch(seed, rows=3)
    teacher, labels = teacher.sort(1).values, torch.full((3,), 2)  # classes 3 and 4 are above
    swapped = teacher[:, [0, 1, 2, 4, 3]]
    torch.testing.assert_close(rld(student, swapped, labels, **PLAIN), rld(student, teacher, labels, **PLAIN))


@given(seeds, st.permutations(range(5)), st.floats(-50, 50))
def test_rld_knows_neither_the_order_of_classes_nor_a_shift_of_logits(seed, order, shift):
    student, teacher, labels = random_batch(seed)
    moved = torch.tensor([order.index(label) for label in labels.tolist()])
    torch.testing.assert_close(
        rld(student[:, order] + shift, teacher[:, order] - shift, moved, **PLAIN),
        rld(student, teacher, labels, **PLAIN),
    )


@pytest.mark.parametrize("classes", [2, 5])
def test_a_teacher_that_ranks_the_label_last_teaches_by_the_first_part_alone(classes):
    student, teacher, _ = random_batch(0, classes=classes)
    student.requires_grad_()
    loss = rld(student, teacher, teacher.argmin(1), **PLAIN)
    (gradient,) = torch.autograd.grad(loss, student)
    assert gradient.isfinite().all()
    torch.testing.assert_close(loss, rld(student, teacher, teacher.argmin(1), **{**PLAIN, "beta": 0.0}))
