"""SRRL's term against its formula, an image at a time, and the head that its gradients pass."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from kdsweep.methods.features.srrl import SRRL

MAP, EMBEDDING, LOGITS = (4, 3, 2, 3), (4, 5), (4, 6)


def taken(seed: int) -> list[torch.Tensor]:
    """The student's map, the teacher's embedding and logits."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(size, generator=generator, dtype=torch.float64) for size in (MAP, EMBEDDING, LOGITS)]


def term(**options) -> SRRL:
    torch.manual_seed(0)
    taps = torch.Size(EMBEDDING), torch.Size(LOGITS)
    return SRRL(torch.Size(MAP), taps, **{"beta": 2.0, **options}).double()


def head() -> nn.Linear:
    torch.manual_seed(1)
    return nn.Linear(5, 6, dtype=torch.float64).requires_grad_(False)


@given(st.integers(0, 2**31 - 1), st.booleans(), st.sampled_from([0.0, 1.0, 5.0]))
def test_it_is_its_formula(seed, relu, beta):
    student, embedding, logits = taken(seed)
    srrl, classify = term(relu=relu, beta=beta), head()
    weight = srrl.connector[0].weight.detach().numpy()[:, :, 0, 0]
    made = np.einsum("oc,bchw->bohw", weight, student.numpy())
    mean, variance = made.mean((0, 2, 3), keepdims=True), made.var((0, 2, 3), keepdims=True)
    made = (made - mean) / np.sqrt(variance + 1e-5)
    made = np.maximum(made, 0) if relu else made
    matched, classified = [], []
    for image in range(len(made)):
        ours = made[image].mean((1, 2))
        matched.append(np.mean((ours - embedding[image].numpy()) ** 2))
        scores = classify.weight.numpy() @ ours + classify.bias.numpy()
        classified.append(np.mean((scores - logits[image].numpy()) ** 2))
    expected = np.mean(matched) + beta * np.mean(classified)
    loss = srrl(student, (embedding, logits), classify)
    assert loss.item() == pytest.approx(expected, rel=1e-9)


def test_gradients_pass_the_teachers_head_which_stays():
    student, embedding, logits = taken(0)
    srrl, classify = term(), head()
    loss = srrl(student.requires_grad_(), (embedding, logits), classify)
    alone = srrl(student, (embedding, logits), lambda made: classify(made).detach())
    (with_head,) = torch.autograd.grad(loss, student, retain_graph=True)
    (without,) = torch.autograd.grad(alone, student)
    assert loss.item() == pytest.approx(alone.item()) and not torch.allclose(with_head, without)
    assert classify.weight.grad is None


def test_an_embedding_and_logits_that_are_met_cost_nothing():
    """What the connector makes is the teacher's embedding, and its logits come from it."""
    student, classify, srrl = taken(0)[0], head(), term()
    embedding = srrl.connector(student).mean((2, 3)).detach()
    assert srrl(student, (embedding, classify(embedding)), classify).item() == pytest.approx(0, abs=1e-20)


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        ((2, 3), [(2, 5), (2, 6)], "needs a map"),
        (MAP, (2, 5), "two taps of the teacher"),
        (MAP, [(2, 5)], "two taps of the teacher"),
        (MAP, [(2, 5, 2, 2), (2, 6)], "needs a vector per image"),
    ],
)
def test_other_taps_are_refused(student, teacher, message):
    shapes = list(map(torch.Size, teacher)) if isinstance(teacher, list) else torch.Size(teacher)
    with pytest.raises(ValueError, match=message):
        SRRL(torch.Size(student), shapes, beta=1.0)
