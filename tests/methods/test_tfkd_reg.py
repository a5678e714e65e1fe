"""Methods without a teacher: Tf-KD_reg against its formula, and smoothed labels."""

import numpy as np
import pytest
import torch
from formulas import kl, random_batch, softmax
from hypothesis import given
from hypothesis import strategies as st
from zoo_examples import method, objective

from kdsweep.methods.logits.tfkd_reg import tfkd_reg

seeds = st.integers(0, 2**31 - 1)


@given(seeds, st.floats(0.01, 40), st.floats(0.1, 1), st.sampled_from([2, 5]))
def test_tfkd_reg_is_its_formula(seed, temperature, correct, classes):
    student, _, labels = random_batch(seed, classes=classes)
    q = softmax(student.numpy())
    losses = []
    for i, label in enumerate(labels.tolist()):
        invented = np.full(classes, (1 - correct) / (classes - 1))
        invented[label] = correct
        losses.append(kl(softmax(invented / temperature), q[i]))
    loss = tfkd_reg(student, labels, temperature=temperature, correct=correct)
    assert loss.item() == pytest.approx(np.mean(losses), rel=1e-8, abs=1e-10)


@given(seeds, st.floats(-50, 50))
def test_tfkd_reg_knows_no_shift_and_is_zero_at_its_invented_teacher(seed, shift):
    student, _, labels = random_batch(seed)
    numbers = {"temperature": 20.0, "correct": 0.99}
    torch.testing.assert_close(
        tfkd_reg(student + shift, labels, **numbers), tfkd_reg(student, labels, **numbers)
    )
    invented = torch.full_like(student, 0.01 / 4).scatter(1, labels[:, None], 0.99) / 20
    assert tfkd_reg(invented + shift, labels, **numbers).item() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("correct", [0.0, -0.1, 1.1])
def test_tfkd_reg_refuses_what_is_no_probability(correct):
    student, _, labels = random_batch(0)
    with pytest.raises(ValueError, match="correct="):
        tfkd_reg(student, labels, temperature=20.0, correct=correct)


@pytest.mark.parametrize("name", ["label_smoothing", "tfkd_reg"])
def test_it_has_no_teacher(name):
    assert not method(name).has_teacher


def test_label_smoothing_is_the_student_alone_with_smoothed_labels():
    smoothed, alone = (objective(name)["labels"] for name in ("label_smoothing", "scratch"))
    assert smoothed == {**alone, "smoothing": 0.1} and set(objective("label_smoothing")) == {"labels"}
