"""The logit terms against formulas written out in float64 numpy."""

import numpy as np
import pytest
import torch
from formulas import kl, random_batch, softmax
from hypothesis import given
from hypothesis import strategies as st

from kdsweep.methods.labels import cross_entropy
from kdsweep.methods.logits.dkd import dkd
from kdsweep.methods.logits.kd import kd
from kdsweep.methods.logits.logit_mse import logit_mse

temperatures = st.floats(0.5, 64)
seeds = st.integers(0, 2**31 - 1)


@given(seeds, temperatures, st.booleans())
def test_kd_is_its_formula(seed, temperature, squared):
    student, teacher, _ = random_batch(seed)
    p, q = softmax(teacher.numpy() / temperature), softmax(student.numpy() / temperature)
    factor = temperature**2 if squared else 1
    expected = np.mean([factor * kl(p[i], q[i]) for i in range(len(p))])
    loss = kd(student, teacher, temperature=temperature, scale_by_temperature_squared=squared)
    assert loss.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(seeds, st.sampled_from([0.0, 0.1, 0.9]))
def test_labels_are_their_formula(seed, smoothing):
    student, _, labels = random_batch(seed)
    logs = np.log(softmax(student.numpy()))
    wanted = np.full(logs.shape, smoothing / logs.shape[1])
    wanted[np.arange(len(labels)), labels.numpy()] += 1 - smoothing
    expected = -(wanted * logs).sum(1).mean()
    assert cross_entropy(student, labels, smoothing=smoothing).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, 2])
def test_smoothing_out_of_range_is_refused(smoothing):
    student, _, labels = random_batch(0)
    with pytest.raises(ValueError, match="smoothing="):
        cross_entropy(student, labels, smoothing=smoothing)


def divergence(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> float:
    """KL in long double."""
    softened = [each.numpy().astype(np.longdouble) / temperature for each in (student, teacher)]
    log_p, log_q = (each - np.log(np.exp(each).sum(1, keepdims=True)) for each in softened)
    return float((np.exp(log_q) * (log_q - log_p)).sum(1).mean())


@given(seeds, st.floats(1, 1000), st.sampled_from([1e-6, 0.01, 0.1, 1.0]), st.sampled_from([0.1, 1.0, 10.0]))
def test_kd_is_exact_and_never_negative_at_any_temperature(seed, temperature, apart, scale):
    """In float32 it was -0.006 at T = 1000 where it is 0.00005."""
    student, noise, _ = random_batch(seed)
    student = (scale * student).float()
    teacher = student + (apart * noise).float()
    student.requires_grad_()
    loss = kd(student, teacher, temperature=temperature)
    (gradient,) = torch.autograd.grad(loss, student)
    student = student.detach()
    expected = temperature**2 * divergence(student, teacher, temperature)
    assert loss.item() >= 0
    assert loss.item() == pytest.approx(expected, rel=1e-5, abs=1e-9)
    p, q = (torch.softmax(each.double() / temperature, 1) for each in (student, teacher))
    exact = temperature * (p - q) / len(student)
    torch.testing.assert_close(gradient.double(), exact, rtol=1e-5, atol=1e-6)


def test_kd_under_vmap_is_as_exact():
    students, teachers = (torch.randn(2, 3, 7, 5, generator=torch.Generator().manual_seed(0)) * 0.1).unbind()
    temperatures = torch.tensor([1000.0, 500.0, 100.0])

    def loss(student, teacher, temperature):
        return kd(student, teacher, temperature=temperature)

    together = torch.func.vmap(loss)(students, teachers, temperatures)
    expected = [
        float(t) ** 2 * divergence(a, b, float(t))
        for a, b, t in zip(students, teachers, temperatures, strict=True)
    ]
    assert together.tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("term", [kd, dkd])
def test_several_students_at_once_get_what_each_gets_alone(term):
    students = torch.stack([random_batch(seed)[0] for seed in range(3)])
    _, teacher, labels = random_batch(9)
    given = {"labels": labels, "alpha": 1.0, "beta": 8.0} if term is dkd else {}
    temperatures = torch.tensor([1.0, 4.0, 16.0], dtype=torch.float64)

    def loss(student, temperature):
        return term(student, teacher, temperature=temperature, **given)

    alone = [loss(student, t) for student, t in zip(students, temperatures.tolist(), strict=True)]
    torch.testing.assert_close(torch.func.vmap(loss)(students, temperatures), torch.stack(alone))


@given(seeds, temperatures)
def test_a_student_like_its_teacher_learns_nothing_from_it(seed, temperature):
    _, teacher, labels = random_batch(seed)
    losses = [
        kd(teacher, teacher, temperature=temperature),
        dkd(teacher, teacher, labels, temperature=temperature, alpha=1.0, beta=8.0),
        logit_mse(teacher, teacher),
    ]
    assert [loss.item() for loss in losses] == pytest.approx([0, 0, 0], abs=1e-9)


@given(seeds)
def test_high_temperature_matches_centred_logits(seed):
    """As T grows, T² · KL tends to ‖(s - s̄) - (t - t̄)‖² / 2C (Hinton et al., section 2.1)."""
    student, teacher, _ = random_batch(seed)
    difference = student - teacher
    limit = (difference - difference.mean(1, keepdim=True)).pow(2).sum(1).mean() / (2 * student.shape[1])
    torch.testing.assert_close(kd(student, teacher, temperature=1e4), limit, rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("squared", [True, False])
def test_the_gradient_of_kd(temperature, squared):
    student, teacher, _ = random_batch(0)

    def loss(logits: torch.Tensor) -> torch.Tensor:
        return kd(logits, teacher, temperature=temperature, scale_by_temperature_squared=squared)

    assert torch.autograd.gradcheck(loss, student.requires_grad_())


@given(seeds)
def test_logit_mse_is_its_formula(seed):
    student, teacher, _ = random_batch(seed)
    expected = np.mean((student.numpy() - teacher.numpy()) ** 2)
    assert logit_mse(student, teacher).item() == pytest.approx(expected, rel=1e-9)


def decoupled(student, teacher, labels, temperature: float, alpha: float, beta: float) -> float:
    """DKD from its definition, one image and class at a time."""
    p, q = (softmax(each.numpy() / temperature) for each in (teacher, student))
    losses = []
    for i, label in enumerate(labels.tolist()):
        rest = [c for c in range(p.shape[1]) if c != label]
        binary = [np.array([each[i, label], each[i, rest].sum()]) for each in (p, q)]
        others = [each[i, rest] / each[i, rest].sum() for each in (p, q)]
        losses.append(temperature**2 * (alpha * kl(*binary) + beta * kl(*others)))
    return float(np.mean(losses))


@given(seeds, temperatures, st.floats(0, 10), st.floats(0, 10), st.sampled_from([2, 5]))
def test_dkd_is_its_formula(seed, temperature, alpha, beta, classes):
    batch = random_batch(seed, classes=classes)
    loss = dkd(*batch, temperature=temperature, alpha=alpha, beta=beta).item()
    assert loss == pytest.approx(decoupled(*batch, temperature, alpha, beta), rel=1e-7, abs=1e-9)


@given(seeds, temperatures)
def test_dkd_with_the_teachers_doubt_as_beta_is_kd(seed, temperature):
    """KL = TCKD + (1 - p) · NCKD (Zhao et al. 2022, equation 5), an image at a time."""
    student, teacher, labels = random_batch(seed, rows=1)
    doubt = 1 - torch.softmax(teacher / temperature, 1)[0, labels[0]]
    loss = dkd(student, teacher, labels, temperature=temperature, alpha=1.0, beta=doubt)
    torch.testing.assert_close(loss, kd(student, teacher, temperature=temperature), rtol=1e-6, atol=1e-9)


@given(seeds, st.permutations(range(5)), st.floats(-50, 50))
def test_dkd_knows_neither_the_order_of_classes_nor_a_shift_of_logits(seed, order, shift):
    student, teacher, labels = random_batch(seed)
    numbers = {"temperature": 4.0, "alpha": 1.0, "beta": 8.0}
    moved = torch.tensor([order.index(label) for label in labels.tolist()])
    torch.testing.assert_close(
        dkd(student[:, order] + shift, teacher[:, order] - shift, moved, **numbers),
        dkd(student, teacher, labels, **numbers),
    )


def test_the_gradient_of_dkd():
    student, teacher, labels = random_batch(0)

    def loss(logits: torch.Tensor) -> torch.Tensor:
        return dkd(logits, teacher, labels, temperature=4.0, alpha=1.0, beta=8.0)

    assert torch.autograd.gradcheck(loss, student.requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [1.0, 1e4])
def test_logit_terms_are_finite_for_sure_and_wrong_networks(dtype, size):
    """A teacher that is sure leaves 1 - p = 0 in float32, whose logarithm the reference code takes."""
    student = (size * torch.eye(4, 5)).to(dtype).requires_grad_()
    teacher = (size * torch.eye(4, 5).roll(1, 0)).to(dtype)
    for labels in (torch.arange(4), torch.zeros(4, dtype=torch.int64)):
        losses = [
            kd(student, teacher, temperature=1.0),
            dkd(student, teacher, labels, temperature=1.0, alpha=1.0, beta=8.0),
            logit_mse(student, teacher),
            cross_entropy(student, labels),
        ]
        for loss in losses:
            (gradient,) = torch.autograd.grad(loss, student)
            assert loss.isfinite() and gradient.isfinite().all()
