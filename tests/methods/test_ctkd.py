"""CTKD's term: kd at a temperature that learns against the student."""

from math import cos, exp, pi

import pytest
import torch
from formulas import random_batch
from hypothesis import given
from hypothesis import strategies as st

from kdsweep.methods.logits.ctkd import CTKD
from kdsweep.methods.logits.kd import kd

# Values that the float32 of a parameter holds exactly.
seeds, thetas = st.integers(0, 2**31 - 1), st.floats(-3, 3, width=32)


@given(seeds, thetas, st.integers(1, 50))
def test_ctkd_is_kd_at_its_temperature(seed, theta, epoch):
    student, teacher, _ = random_batch(seed)
    student.requires_grad_()
    term = CTKD(theta=theta, low=1.0, span=20.0).double()
    temperature = 1 + 20 / (1 + exp(-theta))
    loss, wanted = term(student, teacher, epoch), kd(student, teacher, temperature=temperature)
    torch.testing.assert_close(loss, wanted, rtol=1e-6, atol=1e-9)
    gradients = [torch.autograd.grad(each, student)[0] for each in (loss, wanted)]
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-9)
    assert term.figures["temperature"].item() == pytest.approx(temperature, rel=1e-6)


@given(seeds, thetas, st.integers(1, 50))
def test_its_gradient_is_multiplied_by_a_half_cosine_to_minus_one(seed, theta, epoch):
    """The loss's slope in T by a difference, T², student and teacher together."""
    student, teacher, _ = random_batch(seed)
    term = CTKD(theta=theta, ramp=10).double()
    term(student, teacher, epoch).backward()
    step, share = 1e-5, 1 / (1 + exp(-theta))
    around = [kd(student, teacher, temperature=1 + 20 * share + sign * step) for sign in (-1, 1)]
    slope = (around[1] - around[0]).item() / (2 * step) * 20 * share * (1 - share)
    scale = (cos(pi * min(epoch, 10) / 10) + 1) / 2 - 1
    assert term.theta.grad is not None
    assert term.theta.grad.item() == pytest.approx(scale * slope, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(
    ("ramp", "epoch", "scale"), [(10, 5, -0.5), (10, 10, -1), (10, 99, -1), (5, 5, -1), (0, 1, -1)]
)
def test_its_schedule(ramp, epoch, scale):
    assert CTKD(ramp=ramp).scale(epoch) == pytest.approx(scale)


@given(seeds)
def test_a_step_down_its_gradient_raises_the_loss(seed):
    student, teacher, _ = random_batch(seed)
    term = CTKD(theta=-2.0).double()
    before = term(student, teacher, 10)
    before.backward()
    with torch.no_grad():
        term.theta -= 1e-3 * term.theta.grad.sign()
    assert term(student, teacher, 10) > before
