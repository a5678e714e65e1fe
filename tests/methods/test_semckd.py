"""SemCKD's term against its formula, one image and pair of stages at a time; batches that are smaller."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from zoo_examples import batch, loss_of

from kdsweep.methods.features.semckd import SemCKD

SIZES = {
    "student": ((4, 2, 8, 8), (4, 3, 4, 4)),
    "teacher": ((4, 3, 8, 8), (4, 2, 4, 4), (4, 5, 2, 2)),
}
BATCH = 8
seeds = st.integers(0, 2**31 - 1)


def maps(seed: int, rows: int = 4) -> list[tuple[torch.Tensor, ...]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        tuple(torch.randn(rows, *size[1:], generator=generator, dtype=torch.float64) for size in sizes)
        for sizes in SIZES.values()
    ]


def term(**options) -> SemCKD:
    torch.manual_seed(0)
    shapes = ([torch.Size(size) for size in sizes] for sizes in SIZES.values())
    return SemCKD(*shapes, BATCH, **options).double()


def averaged(value: np.ndarray, size: int) -> np.ndarray:
    step = value.shape[2] // size
    return value.reshape(*value.shape[:2], size, step, size, step).mean((3, 5))


def embedded(perceptron: nn.Sequential, value: np.ndarray, image: int) -> np.ndarray:
    """A query or key of an image, of length 1."""
    row = np.zeros(BATCH)
    for other in range(len(value)):
        row[other] = (value[image] * value[other]).sum()
    first, last = perceptron[0], perceptron[2]
    hidden = np.maximum(first.weight.detach().numpy() @ row + first.bias.detach().numpy(), 0)
    made = last.weight.detach().numpy() @ hidden + last.bias.detach().numpy()
    return made / np.linalg.norm(made)


@given(seeds, st.sampled_from([2, 4, 8]), st.sampled_from([0.1, 1.0]))
def test_it_is_its_formula(seed, rows, softness):
    semckd, (student, teacher) = term(softness=softness), maps(seed, rows)
    ours, theirs = ([each.numpy() for each in side] for side in (student, teacher))
    total = 0.0
    for image in range(rows):
        for i, mine in enumerate(ours):
            query = embedded(semckd.queries[i], mine, image)
            keys = [embedded(semckd.keys[j], other, image) for j, other in enumerate(theirs)]
            scores = np.exp([query @ key / softness for key in keys])
            for j, other in enumerate(theirs):
                size = min(mine.shape[2], other.shape[2])
                projection = semckd.projections[i * len(theirs) + j]
                made = projection(torch.from_numpy(averaged(mine, size))).detach().numpy()[image]
                squares = (made - averaged(other, size)[image]) ** 2
                total += scores[j] / scores.sum() * squares.mean()
    assert semckd(student, teacher).item() == pytest.approx(total / (rows * len(ours)), rel=1e-9)


@given(seeds)
def test_of_one_stage_it_is_the_mean_squared_difference(seed):
    """Attention to one stage is 1."""
    (student, _), (teacher, *_) = maps(seed)
    semckd = SemCKD([student.shape], [teacher.shape], BATCH).double()
    loss = semckd((student,), (teacher,))
    expected = (semckd.projections[0](student) - teacher).square().mean()
    torch.testing.assert_close(loss, expected)


@given(seeds)
def test_attention_sums_to_one(seed):
    attention = term().attention(*maps(seed))
    assert attention.shape == (2, 3, 4)
    torch.testing.assert_close(attention.sum(1), torch.ones(2, 4, dtype=torch.float64))


def test_attention_learns():
    semckd = term()
    semckd(*maps(0)).backward()
    weights = [each[0].weight for each in (*semckd.queries, *semckd.keys)]
    assert all(weight.grad.abs().sum() > 0 for weight in weights)


def test_all_stages_of_both_networks_are_taken():
    """Though networks with other numbers of stages are paired for other terms."""
    example = batch(0)
    stages = example.teachers[0].taps["stages"]
    example.teachers[0].taps["stages"] = (stages[0], *stages)
    (made,) = loss_of("semckd", example).terms["semckd"].adapters
    assert (len(made.queries), len(made.keys)) == (2, 3)
    (paired,) = loss_of("vid", example).terms["vid"].adapters
    assert len(paired.means) == 2


def test_one_map_is_refused():
    with pytest.raises(ValueError, match="taps=stages"):
        SemCKD(torch.Size((2, 3, 4, 4)), torch.Size((2, 3, 4, 4)), BATCH)
