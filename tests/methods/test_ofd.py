"""OFD's term against its formula, one value at a time; its margins; what costs nothing."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from kdsweep.methods.features.ofd import OFD

STUDENT = ((3, 2, 4, 4), (3, 3, 2, 2))
TEACHER = ((3, 3, 4, 4), (3, 5, 2, 2))
LABELS = torch.zeros(3, dtype=torch.int64)
seeds = st.integers(0, 2**31 - 1)


def maps(seed: int, sizes) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(size, generator=generator, dtype=torch.float64) for size in sizes)


def term(*training, student=STUDENT, teacher=TEACHER) -> OFD:
    torch.manual_seed(0)
    shapes = ([torch.Size(size) for size in sizes] for sizes in (student, teacher))
    return OFD(*shapes, iter([(each, LABELS) for each in training])).double()


def normalized(weight: np.ndarray, value: np.ndarray) -> np.ndarray:
    made = np.einsum("oc,bchw->bohw", weight, value)
    mean, variance = made.mean((0, 2, 3), keepdims=True), made.var((0, 2, 3), keepdims=True)
    return (made - mean) / np.sqrt(variance + 1e-5)


@given(seeds)
def test_it_is_its_formula(seed):
    training = [maps(seed + number, TEACHER) for number in (2, 3)]
    ofd, student, teacher = term(*training), maps(seed, STUDENT), maps(seed + 1, TEACHER)
    expected = 0.0
    for level, (ours, theirs) in enumerate(zip(student, teacher, strict=True)):
        seen = np.concatenate([batch[level].numpy() for batch in training])
        made = normalized(ofd.connectors[level][0].weight.detach().numpy()[:, :, 0, 0], ours.numpy())
        distance = 0.0
        for image, channel, row, column in np.ndindex(made.shape):
            values = seen[:, channel]
            margin = np.float32(values[values < 0].mean())
            target = max(theirs[image, channel, row, column].item(), margin)
            value = made[image, channel, row, column]
            if not (value <= target <= 0):
                distance += (value - target) ** 2
        expected += distance / len(ours) / 2 ** (1 - level)
    assert ofd(student, teacher).item() == pytest.approx(expected, rel=1e-9)


def test_the_margin_of_normal_values_is_that_which_the_authors_derive():
    """For x ~ N(β, γ²), as batch normalization makes it: β - |γ| φ(β/γ) / Φ(-β/|γ|)."""
    shape = (100, 4, 50, 50)
    beta, gamma = np.array([-1.0, 0.0, 0.5, 1.5]), np.array([0.5, 1.0, 2.0, 1.0])
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values = values * torch.tensor(gamma)[:, None, None] + torch.tensor(beta)[:, None, None]
    ofd = term(*((part,) for part in values.split(33)), student=[(2, 2, 4, 4)], teacher=[(2, 4, 4, 4)])
    derived = beta - gamma * norm.pdf(beta / gamma) / norm.cdf(-beta / gamma)
    np.testing.assert_allclose(ofd.margin0.flatten().numpy(), derived, atol=0.01)


def test_a_channel_without_negative_values_has_the_margin_0():
    positive = torch.rand(3, 2, 4, 4) + 1
    ofd = term((positive,), student=[(3, 2, 4, 4)], teacher=[(3, 2, 4, 4)])
    assert ofd.margin0.tolist() == [[[0.0]], [[0.0]]]


@given(seeds, st.floats(0, 100))
def test_a_student_below_a_target_that_is_not_positive_costs_nothing(seed, below):
    teacher = (-maps(seed, [(3, 2, 4, 4)])[0].abs(),)
    ofd = term(teacher, student=[(3, 2, 4, 4)], teacher=[(3, 2, 4, 4)])
    target = teacher[0].maximum(ofd.margin0)
    ofd.connectors[0] = torch.nn.Identity()
    assert ofd((target - below,), teacher).item() == 0
    above = ofd((target + 1,), teacher).item()
    assert above == pytest.approx(target[0].numel(), rel=1e-9), "the sum over channels and pixels, per image"


def test_positive_targets_pull_from_both_sides():
    teacher = (maps(0, [(3, 2, 4, 4)])[0].abs() + 1,)
    ofd = term(teacher, student=[(3, 2, 4, 4)], teacher=[(3, 2, 4, 4)])
    ofd.connectors[0] = torch.nn.Identity()
    assert ofd((teacher[0] - 2,), teacher).item() == pytest.approx(4 * teacher[0][0].numel())
    assert ofd(teacher, teacher).item() == 0


def test_the_larger_map_is_averaged():
    training, student, teacher = maps(0, [(3, 3, 4, 4)]), maps(1, [(3, 2, 2, 2)]), maps(2, [(3, 3, 4, 4)])
    ofd = term(training, student=[(3, 2, 2, 2)], teacher=[(3, 3, 4, 4)])
    averaged = (torch.nn.functional.avg_pool2d(teacher[0], 2),)
    torch.testing.assert_close(ofd(student, teacher), ofd(student, averaged))


def test_one_map_is_refused():
    with pytest.raises(ValueError, match="taps=stages"):
        OFD(torch.Size((2, 3, 4, 4)), torch.Size((2, 3, 4, 4)), iter(()))
