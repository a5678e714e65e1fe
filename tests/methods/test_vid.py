"""VID's term against its formula, one image, channel and pixel at a time."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from kdsweep.methods.features.vid import VID

STUDENT = ((3, 2, 4, 4), (3, 4, 2, 2))
TEACHER = ((3, 3, 2, 2), (3, 5, 4, 4))


def maps(seed: int, sizes=STUDENT) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(size, generator=generator, dtype=torch.float64) for size in sizes)


def term(**options) -> VID:
    torch.manual_seed(0)
    return VID(*([torch.Size(size) for size in sizes] for sizes in (STUDENT, TEACHER)), **options).double()


def halved(value: np.ndarray) -> np.ndarray:
    """Averages of 2×2 pixels."""
    return sum(value[..., row::2, column::2] for row in (0, 1) for column in (0, 1)) / 4


def expected(vid: VID, student, teacher) -> float:
    total = 0.0
    for number, (ours, theirs) in enumerate(zip(student, teacher, strict=True)):
        ours, theirs = ours.numpy(), theirs.numpy()
        ours, theirs = (halved(ours), theirs) if number == 0 else (ours, halved(theirs))
        layers = [each.weight.detach().numpy()[:, :, 0, 0] for each in vid.means[number][::2]]
        spread = vid.spreads[number].detach().numpy()
        values = []
        for image, row, column in np.ndindex(len(ours), *ours.shape[2:]):
            made = ours[image, :, row, column]
            for layer in layers[:2]:
                made = np.maximum(layer @ made, 0)
            for channel, mean in enumerate(layers[2] @ made):
                variance = np.log(1 + np.exp(spread[channel])) + 1e-5
                difference = mean - theirs[image, channel, row, column]
                values.append((difference**2 / variance + np.log(variance)) / 2)
        total += np.mean(values)
    return total


@given(st.integers(0, 2**31 - 1))
def test_it_is_its_formula(seed):
    vid, student, teacher = term(), maps(seed), maps(seed + 1, TEACHER)
    with torch.no_grad():
        for number, spread in enumerate(vid.spreads):
            spread.copy_(torch.linspace(-2, 3, len(spread)) + number)
    assert vid(student, teacher).item() == pytest.approx(expected(vid, student, teacher), rel=1e-9)


@pytest.mark.parametrize("variance", [0.01, 5.0, 500.0])
def test_the_variance_begins_as_asked(variance):
    for spread in term(variance=variance).spreads:
        begun = nn.functional.softplus(spread) + 1e-5
        torch.testing.assert_close(begun, torch.full_like(begun, variance), rtol=1e-5, atol=1e-6)


def test_the_best_variance_is_the_mean_squared_difference():
    """d/dσ² of d²/σ² + log σ² is 0 at σ² = d², in each channel."""
    vid, student, teacher = term(), maps(0)[1:], maps(1, TEACHER)[1:]
    vid.means, vid.spreads = vid.means[1:], nn.ParameterList(vid.spreads[1:])
    with torch.no_grad():
        target = nn.functional.adaptive_avg_pool2d(teacher[0], 2)
        best = (vid.means[0](student[0]) - target).square().mean((0, 2, 3)) - 1e-5
        vid.spreads[0].copy_(best.expm1().log())
    vid(student, teacher).backward()
    assert vid.spreads[0].grad.abs().max() < 1e-9


def test_a_huge_spread_does_not_overflow():
    vid = term()
    with torch.no_grad():
        vid.spreads[0].fill_(1000.0)
    assert vid(maps(0), maps(1, TEACHER)).isfinite()


@pytest.mark.parametrize("variance", [0.0, -1.0, 1e-5])
def test_a_variance_that_is_none_is_refused(variance):
    with pytest.raises(ValueError, match="variance="):
        term(variance=variance)


def test_one_map_or_embeddings_are_refused():
    with pytest.raises(ValueError, match="taps=stages"):
        VID(torch.Size((2, 3, 4, 4)), torch.Size((2, 3, 4, 4)))
    with pytest.raises(ValueError, match="a map"):
        VID([torch.Size((2, 3))], [torch.Size((2, 3))])
