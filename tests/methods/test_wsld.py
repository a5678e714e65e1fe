"""WSLD's term against its formula, one image at a time; the weights of images."""

import numpy as np
import pytest
import torch
from formulas import random_batch, softmax
from hypothesis import given
from hypothesis import strategies as st

from kdsweep.methods.logits.wsld import wsld

seeds, temperatures = st.integers(0, 2**31 - 1), st.floats(0.5, 64)


def weight(student: np.ndarray, teacher: np.ndarray, label: int) -> float:
    ours, theirs = (-np.log(softmax(each)[label]) for each in (student, teacher))
    return 1 - np.exp(-ours / (theirs + 1e-7))


@given(seeds, temperatures, st.sampled_from([2, 5]))
def test_wsld_is_its_formula(seed, temperature, classes):
    student, teacher, labels = random_batch(seed, classes=classes)
    losses = []
    for s, t, label in zip(student.numpy(), teacher.numpy(), labels.tolist(), strict=True):
        p, q = softmax(t / temperature), softmax(s / temperature)
        losses.append(weight(s, t, label) * temperature**2 * -(p * np.log(q)).sum())
    loss = wsld(student, teacher, labels, temperature=temperature)
    assert loss.item() == pytest.approx(np.mean(losses), rel=1e-6, abs=1e-9)


@given(seeds, temperatures)
def test_the_gradient_of_wsld_is_kds_times_weights_that_have_none(seed, temperature):
    student, teacher, labels = random_batch(seed)
    student.requires_grad_()
    (gradient,) = torch.autograd.grad(wsld(student, teacher, labels, temperature=temperature), student)
    student = student.detach()
    weights = [
        weight(s, t, label)
        for s, t, label in zip(student.numpy(), teacher.numpy(), labels.tolist(), strict=True)
    ]
    q, p = (torch.softmax(each / temperature, 1) for each in (student, teacher))
    wanted = torch.tensor(weights)[:, None] * temperature * (q - p) / len(labels)
    torch.testing.assert_close(gradient, wanted, rtol=1e-6, atol=1e-9)


@given(seeds, st.floats(-50, 50))
def test_wsld_knows_no_shift_of_logits(seed, shift):
    student, teacher, labels = random_batch(seed)
    torch.testing.assert_close(
        wsld(student + shift, teacher - shift, labels, temperature=4.0),
        wsld(student, teacher, labels, temperature=4.0),
    )


def test_an_image_that_the_student_knows_better_weighs_less():
    teacher, labels = torch.tensor([[2.0, 0.0, 1.0]]), torch.tensor([0])
    losses = [
        wsld(torch.tensor([[logit, 0.0, 1.0]]), teacher, labels, temperature=4.0)
        for logit in (-2.0, 2.0, 8.0)
    ]
    assert losses[0] > losses[1] > losses[2]


def test_a_sure_teacher_weighs_all_images_alike():
    """CE(t, y) is 0 in float32; the weight is 1, so that the loss is kd's cross-entropy."""
    teacher, labels = 1000 * torch.eye(3), torch.arange(3)
    student = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, -3.0]])
    wanted = torch.nn.functional.cross_entropy(student, labels)
    torch.testing.assert_close(wsld(student, teacher, labels, temperature=1.0), wanted)
