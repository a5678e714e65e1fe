"""The switch `standardize` of terms of logits, as logit_std has it; and normkd, a relative."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from formulas import kl, random_batch, softmax
from helpers import composed, setting_of
from hypothesis import given
from hypothesis import strategies as st
from zoo_examples import batch, objective

from kdsweep.errors import ConfigError
from kdsweep.methods.logits.kd import kd
from kdsweep.methods.logits.normkd import normkd
from kdsweep.methods.loss import Loss
from kdsweep.methods.term import Batch, Outputs

seeds, temperatures = st.integers(0, 2**31 - 1), st.floats(0.5, 16)
scales = st.lists(st.floats(0.1, 20), min_size=7, max_size=7)


def standardized_kd(student: torch.Tensor, teacher: torch.Tensor, temperature: float = 2.0) -> torch.Tensor:
    """The term kd of method=logit_std."""
    labels = torch.zeros(len(student), dtype=torch.int64)
    seen = Batch(Outputs(student), [Outputs(teacher)], labels, labels)
    terms = {"kd": objective("logit_std", temperature)["kd"]}
    return Loss(terms, setting_of(seen, student.shape[1]), seed=0)(seen)["kd"]


@given(seeds, temperatures)
def test_logit_std_is_its_formula(seed, temperature):
    """kd of z-scores, whose deviation has C - 1."""
    student, teacher, _ = random_batch(seed)
    losses = []
    for s, t in zip(student.numpy(), teacher.numpy(), strict=True):
        ours, theirs = ((each - each.mean()) / (each.std(ddof=1) + 1e-7) for each in (s, t))
        losses.append(temperature**2 * kl(softmax(theirs / temperature), softmax(ours / temperature)))
    loss = standardized_kd(student, teacher, temperature)
    assert loss.item() == pytest.approx(np.mean(losses), rel=1e-9, abs=1e-12)


def test_logit_std_weighs_as_published():
    described = objective("logit_std", temperature=2.0)
    assert {name: term["weight"] for name, term in described.items()} == {"labels": 0.1, "kd": 9.0}


@pytest.mark.parametrize(
    ("overrides", "temperature", "alpha"),
    [
        (["method=logit_std"], 2.0, 0.5),
        (["method=nkd"], 1.0, 0.5),
        (["method=normkd"], 2.0, 0.1),
        (["method=ctkd"], 4.0, 0.1),
        (["method=normkd", "temperature=3", "alpha=0.2"], 3.0, 0.2),
        (["method=normkd", "experiment=cifar10_resnet"], 7.0, 0.3),
    ],
)
def test_published_temperatures_and_alphas_are_a_methods_defaults(overrides, temperature, alpha):
    config = composed(*overrides)
    assert (config.temperature, config.alpha) == (temperature, alpha)


@given(seeds, scales, scales)
def test_logit_std_knows_no_affine_map_of_an_images_logits(seed, by, shift):
    student, teacher, _ = random_batch(seed)
    factors, shifts = (torch.tensor(each, dtype=torch.float64)[:, None] for each in (by, shift))
    wanted = standardized_kd(student, teacher)
    torch.testing.assert_close(
        standardized_kd(factors * student - shifts, teacher), wanted, rtol=1e-5, atol=1e-6
    )
    torch.testing.assert_close(
        standardized_kd(student, factors * teacher + shifts), wanted, rtol=1e-5, atol=1e-6
    )
    assert standardized_kd(factors * teacher + shifts, teacher).item() == pytest.approx(0, abs=1e-9)


@given(seeds)
def test_the_students_deviation_has_a_gradient(seed):
    """Since scale and shift of its logits change nothing, the gradient is orthogonal to both."""
    student, teacher, _ = random_batch(seed)
    student.requires_grad_()
    (gradient,) = torch.autograd.grad(standardized_kd(student, teacher), student)
    assert gradient.abs().max() > 1e-6
    for along in (student.detach(), torch.ones_like(gradient)):
        torch.testing.assert_close((gradient * along).sum(1), torch.zeros(7).double(), rtol=0, atol=1e-6)


def test_standardize_is_refused_where_a_term_has_taps():
    example = batch()
    term = {**objective("fitnet")["fitnet"], "standardize": True}
    with pytest.raises(ConfigError, match=r"method\.terms\.fitnet: standardize is for terms of logits"):
        Loss({"fitnet": term}, setting_of(example, 5), seed=0)


def test_a_term_without_a_teacher_is_standardized_too():
    example = batch()
    labels = {"_target_": "kdsweep.methods.labels.cross_entropy", "weight": 1.0, "standardize": True}
    loss = Loss({"labels": labels}, setting_of(example, 5), seed=0)
    louder = replace(example, student=replace(example.student, logits=10 * example.student.logits))
    torch.testing.assert_close(loss(louder)["labels"], loss(example)["labels"], rtol=1e-5, atol=1e-6)


@given(seeds, temperatures)
def test_normkd_is_its_formula(seed, temperature):
    student, teacher, _ = random_batch(seed)
    losses = []
    for s, t in zip(student.numpy(), teacher.numpy(), strict=True):
        ours, theirs = temperature * s.std(ddof=1), temperature * t.std(ddof=1)
        losses.append(theirs**2 * kl(softmax(t / theirs), softmax(s / ours)))
    loss = normkd(student, teacher, temperature=temperature)
    assert loss.item() == pytest.approx(np.mean(losses), rel=1e-5, abs=1e-9)


@given(seeds, st.floats(0.1, 20), st.floats(-50, 50))
def test_normkd_grows_with_the_square_of_the_teachers_scale_alone(seed, factor, shift):
    student, teacher, _ = random_batch(seed)
    plain = normkd(student, teacher, temperature=2.0)
    torch.testing.assert_close(
        normkd(factor * student + shift, teacher - shift, temperature=2.0), plain, rtol=1e-5, atol=1e-6
    )
    louder = normkd(student, factor * teacher, temperature=2.0)
    torch.testing.assert_close(louder, factor**2 * plain, rtol=1e-5, atol=1e-6)
    assert normkd(teacher, teacher, temperature=2.0).item() == pytest.approx(0, abs=1e-9)


@given(seeds)
def test_normkd_of_an_image_is_kd_of_z_scores_times_the_teachers_variance(seed):
    student, teacher, _ = random_batch(seed, rows=1)
    ours, theirs = (each / each.std(1) for each in (student, teacher))
    wanted = teacher.var() * kd(ours, theirs, temperature=2.0)
    torch.testing.assert_close(normkd(student, teacher, temperature=2.0), wanted, rtol=1e-5, atol=1e-9)
