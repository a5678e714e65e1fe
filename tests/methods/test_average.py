"""Several teachers as one: the formulas in float64."""

import pytest
import torch
from helpers import kd_objective, setting_of
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kdsweep.methods.average import as_one, averaged
from kdsweep.methods.logits.kd import kd
from kdsweep.methods.loss import Loss
from kdsweep.methods.term import Batch, Outputs
from kdsweep.stage import Average

WEIGHTS = st.lists(st.floats(0.1, 10), min_size=2, max_size=4).map(
    lambda found: tuple(each / sum(found) for each in found)
)


def drawn(count: int, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [3 * torch.randn(5, 4, generator=generator, dtype=torch.float64) for _ in range(count)]


@given(WEIGHTS, st.integers(0, 99))
def test_probabilities_and_logits_are_averaged_by_their_weights(weights, seed):
    logits = drawn(len(weights), seed)
    mean = sum(w * each.softmax(1) for w, each in zip(weights, logits, strict=True))
    torch.testing.assert_close(averaged(logits, Average("probabilities", weights)).softmax(1), mean)
    mean = sum(w * each for w, each in zip(weights, logits, strict=True))
    torch.testing.assert_close(averaged(logits, Average("logits", weights)), mean)


def test_of_terms_each_teacher_is_met_alone():
    teachers = [Outputs(each) for each in drawn(3, 0)]
    assert as_one(teachers, Average()) is teachers
    (one,) = as_one(teachers, Average("logits"))
    torch.testing.assert_close(one.logits, sum(each.logits for each in teachers) / 3)


@given(WEIGHTS, st.integers(0, 99), st.floats(1, 8))
def test_averaged_terms_of_kd_teach_the_mean_of_the_softened_probabilities(weights, seed, temperature):
    """Σ w KL(p_k ‖ q) is KL(Σ w p_k ‖ q) up to a constant: its gradient is that of the mean."""
    teachers = drawn(len(weights), seed)
    student = drawn(1, seed + 100)[0].requires_grad_()
    each = [kd(student, teacher, temperature=temperature) for teacher in teachers]
    (of_terms,) = torch.autograd.grad(sum(w * one for w, one in zip(weights, each, strict=True)), student)
    mean = sum(w * (one / temperature).softmax(1) for w, one in zip(weights, teachers, strict=True))
    (of_mean,) = torch.autograd.grad(kd(student, mean.log() * temperature, temperature=temperature), student)
    torch.testing.assert_close(of_terms, of_mean)


def test_a_loss_weighs_the_teachers():
    teachers, (student,) = [Outputs(each.float()) for each in drawn(2, 1)], drawn(1, 2)
    batch = Batch(Outputs(student.float()), teachers, torch.arange(5) % 4, torch.arange(5))
    objective = kd_objective(2.0, 0.0)
    setting = setting_of(batch, 4)

    def loss(weights: tuple[float, ...], heard: list[Outputs]) -> float:
        made = setting.__class__(**{**vars(setting), "teachers": len(heard), "weights": weights})
        met = Batch(batch.student, heard, batch.labels, batch.indices)
        return Loss(objective, made, 0)(met)["kd"].item()

    alone = [loss((), [teacher]) for teacher in teachers]
    assert loss((0.75, 0.25), teachers) == pytest.approx(0.75 * alone[0] + 0.25 * alone[1])
    assert loss((), teachers) == pytest.approx(sum(alone) / 2)
