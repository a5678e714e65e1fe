"""TTM and WTTM against their formulas, which raise probabilities to a power."""

import numpy as np
import pytest
import torch
from formulas import kl, random_batch, softmax
from hypothesis import given
from hypothesis import strategies as st

from kdsweep.methods.logits.ttm import ttm, wttm

seeds, gammas = st.integers(0, 2**31 - 1), st.floats(0.05, 1)


@given(seeds, gammas, st.sampled_from([2, 5]))
def test_ttm_and_wttm_are_their_formulas(seed, gamma, classes):
    student, teacher, _ = random_batch(seed, classes=classes)
    powers, q = softmax(teacher.numpy()) ** gamma, softmax(student.numpy())
    each = [kl(powers[i] / powers[i].sum(), q[i]) for i in range(len(q))]
    weighted = [powers[i].sum() * each[i] for i in range(len(q))]
    assert ttm(student, teacher, gamma=gamma).item() == pytest.approx(np.mean(each), rel=1e-9, abs=1e-12)
    assert wttm(student, teacher, gamma=gamma).item() == pytest.approx(np.mean(weighted), rel=1e-9, abs=1e-12)


@given(seeds, gammas, st.floats(-50, 50))
def test_ttm_softens_the_teacher_alone(seed, gamma, shift):
    """softmax(gamma · t) meets a student with these logits."""
    student, teacher, _ = random_batch(seed)
    for term in (ttm, wttm):
        assert term(gamma * teacher + shift, teacher - shift, gamma=gamma).item() == pytest.approx(
            0, abs=1e-9
        )
        torch.testing.assert_close(
            term(student + shift, teacher - shift, gamma=gamma), term(student, teacher, gamma=gamma)
        )
    assert ttm(teacher, teacher, gamma=1.0).item() == pytest.approx(0, abs=1e-9)
    assert ttm(teacher, teacher, gamma=0.5).item() > 0


@given(seeds, gammas)
def test_wttm_asks_more_of_images_of_which_the_teacher_is_unsure(seed, gamma):
    student, _, labels = random_batch(seed)
    sure, unsure = 1000.0 / gamma * torch.eye(5, dtype=torch.float64)[labels], torch.zeros_like(student)
    for teacher, factor in ((sure, 1.0), (unsure, 5 ** (1 - gamma))):
        wanted = factor * ttm(student, teacher, gamma=gamma)
        torch.testing.assert_close(wttm(student, teacher, gamma=gamma), wanted)
    student, teacher, _ = random_batch(seed, rows=1)
    weight = wttm(student, teacher, gamma=gamma) / ttm(student, teacher, gamma=gamma)
    assert 1 - 1e-9 <= weight.item() <= 5 ** (1 - gamma) + 1e-9
