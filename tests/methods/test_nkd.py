"""NKD's term against its formula, one image and class at a time."""

import numpy as np
import pytest
import torch
from formulas import random_batch, softmax
from hypothesis import given
from hypothesis import strategies as st

from kdsweep.methods.logits.nkd import nkd

seeds, temperatures = st.integers(0, 2**31 - 1), st.floats(0.5, 64)


@given(seeds, temperatures, st.floats(0, 10), st.sampled_from([2, 5]))
def test_nkd_is_its_formula(seed, temperature, gamma, classes):
    student, teacher, labels = random_batch(seed, classes=classes)
    q, p = softmax(student.numpy()), softmax(teacher.numpy())
    losses = []
    for i, label in enumerate(labels.tolist()):
        rest = [c for c in range(classes) if c != label]
        ours, theirs = (softmax(each.numpy()[i, rest] / temperature) for each in (student, teacher))
        others = sum(theirs[c] * np.log(ours[c]) for c in range(len(rest)))
        losses.append(-p[i, label] * np.log(q[i, label]) - gamma * temperature**2 * others)
    loss = nkd(student, teacher, labels, temperature=temperature, gamma=gamma)
    assert loss.item() == pytest.approx(np.mean(losses), rel=1e-9, abs=1e-12)


@given(seeds, st.permutations(range(5)), st.floats(-50, 50))
def test_nkd_knows_neither_the_order_of_classes_nor_a_shift_of_logits(seed, order, shift):
    student, teacher, labels = random_batch(seed)
    moved = torch.tensor([order.index(label) for label in labels.tolist()])
    torch.testing.assert_close(
        nkd(student[:, order] + shift, teacher[:, order] - shift, moved, temperature=2.0, gamma=1.5),
        nkd(student, teacher, labels, temperature=2.0, gamma=1.5),
    )


@given(seeds, temperatures)
def test_a_student_like_its_teacher_still_learns_the_label_and_nothing_of_the_others(seed, temperature):
    """∂ / ∂s of the first part is p_y · (p - y); the second is at its least."""
    _, teacher, labels = random_batch(seed)
    student = teacher.clone().requires_grad_()
    loss = nkd(student, teacher, labels, temperature=temperature, gamma=1.5)
    (gradient,) = torch.autograd.grad(loss, student)
    p = teacher.softmax(1)
    wanted = p.gather(1, labels[:, None]) * (p - torch.nn.functional.one_hot(labels, 5)) / len(labels)
    torch.testing.assert_close(gradient, wanted, rtol=1e-6, atol=1e-9)
