"""ReviewKD's term against its formula; its loss at several sizes; the levels that it takes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from kdsweep.methods.features.reviewkd import ReviewKD, hierarchical_context_loss

STUDENT = ((3, 2, 8, 8), (3, 4, 4, 4), (3, 4))
TEACHER = ((3, 3, 4, 4), (3, 5, 4, 4), (3, 6))
seeds = st.integers(0, 2**31 - 1)


def taken(seed: int, sizes=STUDENT) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(size, generator=generator, dtype=torch.float64) for size in sizes]


def term(student=STUDENT, teacher=TEACHER) -> ReviewKD:
    torch.manual_seed(0)
    return ReviewKD(*([torch.Size(size) for size in sizes] for sizes in (student, teacher))).double()


def convolved(part: nn.Sequential, value: np.ndarray) -> np.ndarray:
    """A convolution and batch normalization, one pixel at a time."""
    weight = part[0].weight.detach().numpy()
    edge = weight.shape[-1] // 2
    padded = np.pad(value, ((0, 0), (0, 0), (edge, edge), (edge, edge)))
    made = np.empty((len(value), len(weight), *value.shape[2:]))
    for row, column in np.ndindex(*value.shape[2:]):
        window = padded[:, :, row : row + weight.shape[2], column : column + weight.shape[3]]
        made[:, :, row, column] = np.einsum("ocij,bcij->bo", weight, window)
    mean, variance = made.mean((0, 2, 3), keepdims=True), made.var((0, 2, 3), keepdims=True)
    return (made - mean) / np.sqrt(variance + 1e-5)


def nearest(value: np.ndarray, size: int) -> np.ndarray:
    places = [i * value.shape[2] // size for i in range(size)]
    return value[:, :, places][:, :, :, places]


def context(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The mean squared difference, and those of averages over 4×4, 2×2, 1×1, at half the weight each."""
    total, weights, weight = np.mean((ours - theirs) ** 2), 1.0, 1.0
    for size in (4, 2, 1):
        if size < ours.shape[2]:
            step = ours.shape[2] // size
            parts = [
                each.reshape(*each.shape[:2], size, step, size, step).mean((3, 5)) for each in (ours, theirs)
            ]
            weight /= 2
            weights += weight
            total += weight * np.mean((parts[0] - parts[1]) ** 2)
    return total / weights


@given(seeds)
def test_it_is_its_formula(seed):
    review, student, teacher = term(), taken(seed), taken(seed + 1, TEACHER)
    deeper, expected = None, 0.0
    for fusion, ours, theirs in reversed(list(zip(review.fusions, student, teacher, strict=True))):
        ours, theirs = (
            each.numpy().reshape(*each.shape[:2], *(each.shape[2:] or (1, 1))) for each in (ours, theirs)
        )
        mixed = convolved(fusion.narrow, ours)
        if deeper is not None:
            deeper = nearest(deeper, ours.shape[2])
            weight, bias = (each.detach().numpy() for each in fusion.attention[0].parameters())
            scores = np.einsum("oc,bchw->bohw", weight[:, :, 0, 0], np.concatenate((mixed, deeper), 1))
            shares = 1 / (1 + np.exp(-scores - bias[None, :, None, None]))
            mixed = shares[:, :1] * mixed + shares[:, 1:] * deeper
        mixed = deeper = nearest(mixed, theirs.shape[2])
        expected += context(convolved(fusion.widen, mixed), theirs)
    assert review(student, teacher).item() == pytest.approx(expected, rel=1e-9)


@given(seeds, st.sampled_from([1, 2, 3, 4, 5, 8, 16]))
def test_the_context_loss(seed, size):
    ours, theirs = taken(seed, [(2, 3, size, size)] * 2)
    loss = hierarchical_context_loss(ours, theirs).item()
    if size not in (3, 5):  # parts of one size
        assert loss == pytest.approx(context(ours.numpy(), theirs.numpy()), rel=1e-9)
    assert hierarchical_context_loss(ours, ours).item() == 0
    if size == 1:
        assert loss == pytest.approx((ours - theirs).square().mean().item())


def test_constant_differences_count_once():
    """The weights sum to 1."""
    ours = taken(0, [(2, 3, 8, 8)])[0]
    assert hierarchical_context_loss(ours, ours + 2).item() == pytest.approx(4)


def test_each_level_is_made_of_those_from_it_on():
    review, made = term(), []
    for fusion in review.fusions:
        fusion.register_forward_hook(lambda fusion, inputs, output: made.append(output[0]))
    student = [each.requires_grad_() for each in taken(0)]
    review(student, taken(1, TEACHER))
    for own, level in zip((2, 1, 0), made, strict=True):
        gradients = torch.autograd.grad(level.sum(), student, retain_graph=True, allow_unused=True)
        assert [gradient is not None for gradient in gradients] == [number >= own for number in range(3)]


def test_a_wide_embedding_is_narrowed():
    shapes = ((2, 2, 2, 2), (2, 600))
    assert term(shapes, shapes).fusions[0].narrow[0].out_channels == 512


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        (torch.Size((2, 3, 4, 4)), torch.Size((2, 3, 4, 4)), "lists of taps"),
        ([torch.Size((2, 3, 4))], [torch.Size((2, 3))], "a map"),
        ([torch.Size((2, 3))], [torch.Size((2, 3, 4, 4)), torch.Size((2, 3))], "the student has 1 taps"),
    ],
)
def test_other_levels_are_refused(student, teacher, message):
    with pytest.raises(ValueError, match=message):
        ReviewKD(student, teacher)
