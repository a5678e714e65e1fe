"""Hard labels of the teacher, and binary distillation, against their formulas."""

import numpy as np
import pytest
import torch
from formulas import random_batch, softmax
from hypothesis import given
from hypothesis import strategies as st

from kdsweep.methods.labels import binary_cross_entropy
from kdsweep.methods.logits.bkd import bkd
from kdsweep.methods.logits.hard import hard

seeds = st.integers(0, 2**31 - 1)


@given(seeds, st.floats(-50, 50))
def test_hard_is_its_formula(seed, shift):
    student, teacher, _ = random_batch(seed)
    q, best = softmax(student.numpy()), teacher.numpy().argmax(1)
    expected = -np.mean([np.log(q[i, best[i]]) for i in range(len(q))])
    assert hard(student, teacher).item() == pytest.approx(expected, rel=1e-9)
    torch.testing.assert_close(hard(student - shift, 3 * teacher + shift), hard(student, teacher))


def binary(student: np.ndarray, target: np.ndarray) -> float:
    q = 1 / (1 + np.exp(-student))
    losses = [
        -(target[i, c] * np.log(q[i, c]) + (1 - target[i, c]) * np.log(1 - q[i, c]))
        for i in range(len(q))
        for c in range(q.shape[1])
    ]
    return float(np.mean(losses))


@given(seeds, st.floats(-50, 50))
def test_bkd_is_its_formula(seed, shift):
    student, teacher, _ = random_batch(seed)
    expected = binary(student.numpy(), softmax(teacher.numpy()))
    assert bkd(student, teacher + shift).item() == pytest.approx(expected, rel=1e-9)


@given(seeds)
def test_bkd_is_least_where_each_sigmoid_is_the_teachers_probability(seed):
    _, teacher, _ = random_batch(seed)
    student = teacher.softmax(1).logit().requires_grad_()
    (gradient,) = torch.autograd.grad(bkd(student, teacher), student)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-12)


@given(seeds, st.sampled_from([0.0, 0.1, 0.9]))
def test_binary_labels_are_their_formula(seed, smoothing):
    student, _, labels = random_batch(seed)
    wanted = np.full(student.shape, smoothing / student.shape[1])
    wanted[np.arange(len(labels)), labels.numpy()] += 1 - smoothing
    loss = binary_cross_entropy(student, labels, smoothing=smoothing)
    assert loss.item() == pytest.approx(binary(student.numpy(), wanted), rel=1e-9)


@given(seeds)
def test_bkd_with_a_sure_teacher_is_that_of_labels(seed):
    student, _, labels = random_batch(seed)
    teacher = 1000 * torch.eye(5, dtype=torch.float64)[labels]
    torch.testing.assert_close(bkd(student, teacher), binary_cross_entropy(student, labels))


@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_binary_smoothing_out_of_range_is_refused(smoothing):
    student, _, labels = random_batch(0)
    with pytest.raises(ValueError, match="smoothing="):
        binary_cross_entropy(student, labels, smoothing=smoothing)
