"""DIST's term against its formula, one row and column at a time."""

import numpy as np
import pytest
import torch
from formulas import random_batch, softmax
from hypothesis import given
from hypothesis import strategies as st

from kdsweep.methods.logits.dist import dist

seeds = st.integers(0, 2**31 - 1)
PLAIN = {"temperature": 4.0, "beta": 1.0, "gamma": 1.0}


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    first, second = first - first.mean(), second - second.mean()
    return first @ second / (np.sqrt(first @ first) * np.sqrt(second @ second) + 1e-8)


@given(seeds, st.floats(0.5, 16), st.floats(0, 3), st.floats(0, 3), st.sampled_from([2, 5]))
def test_dist_is_its_formula(seed, temperature, beta, gamma, classes):
    student, teacher, _ = random_batch(seed, classes=classes)
    q, p = (softmax(each.numpy() / temperature) for each in (student, teacher))
    inter = np.mean([1 - correlation(q[i], p[i]) for i in range(len(q))])
    intra = np.mean([1 - correlation(q[:, c], p[:, c]) for c in range(classes)])
    loss = dist(student, teacher, temperature=temperature, beta=beta, gamma=gamma)
    expected = temperature**2 * (beta * inter + gamma * intra)
    assert loss.item() == pytest.approx(expected, rel=1e-7, abs=1e-8)


@given(seeds)
def test_dist_is_zero_for_equal_networks_and_never_negative(seed):
    student, teacher, _ = random_batch(seed)
    assert dist(teacher, teacher, **PLAIN).item() == pytest.approx(0, abs=1e-4)
    assert dist(student, teacher, **PLAIN).item() >= 0


@given(seeds, st.floats(0.2, 1))
def test_dist_knows_probabilities_but_for_positive_affine_maps(seed, share):
    """share · q + rest is such a map of each row, and of each column."""
    student, teacher, _ = random_batch(seed)
    numbers = {**PLAIN, "temperature": 1.0}
    mixed = share * student.softmax(1) + (1 - share) / student.shape[1]
    torch.testing.assert_close(
        dist(mixed.log(), teacher, **numbers), dist(student, teacher, **numbers), rtol=1e-4, atol=1e-4
    )


@given(seeds, st.permutations(range(5)), st.permutations(range(7)), st.floats(-50, 50))
def test_dist_knows_neither_the_order_of_images_and_classes_nor_a_shift(seed, classes, images, shift):
    student, teacher, _ = random_batch(seed)
    mixed = [each[images][:, classes] for each in (student, teacher)]
    torch.testing.assert_close(
        dist(mixed[0] + shift, mixed[1] - shift, **PLAIN), dist(student, teacher, **PLAIN)
    )


def test_dist_looks_at_the_batch_as_a_whole():
    student, teacher, _ = random_batch(0, rows=8)
    halves = [dist(student[part], teacher[part], **PLAIN) for part in (slice(4), slice(4, 8))]
    assert abs(torch.stack(halves).mean() - dist(student, teacher, **PLAIN)) > 0.1
    assert dist.of_whole_batch


def test_a_class_without_variance_in_the_batch_is_finite():
    student, teacher, _ = random_batch(0)
    student = torch.zeros_like(student).requires_grad_()
    loss = dist(student, teacher, **PLAIN)
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.item() == pytest.approx(2 * 16) and gradient.isfinite().all()
