"""The losses against formulas written out in float64 numpy."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdsweep.methods.labels import cross_entropy
from kdsweep.methods.logits.kd import kd
from kdsweep.methods.logits.logit_mse import logit_mse

temperatures = st.floats(0.5, 64)
alphas = st.floats(0, 1)
seeds = st.integers(0, 2**31 - 1)


def random_batch(
    seed: int, rows: int = 7, classes: int = 5
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = 4 * torch.randn(2, rows, classes, generator=generator, dtype=torch.float64)
    return student, teacher, torch.randint(0, classes, (rows,), generator=generator)


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def reference(student, teacher, labels, temperature: float, alpha: float, squared: bool) -> float:
    """Hinton's loss from its definition, one image at a time."""
    student, teacher = student.numpy(), teacher.numpy()
    hard = softmax(student)
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    losses = []
    for i, label in enumerate(labels.tolist()):
        divergence = sum(p[i, c] * (np.log(p[i, c]) - np.log(q[i, c])) for c in range(student.shape[1]))
        factor = temperature**2 if squared else 1
        losses.append(alpha * -np.log(hard[i, label]) + (1 - alpha) * factor * divergence)
    return float(np.mean(losses))


@given(seeds, temperatures, alphas, st.booleans())
def test_kd_is_its_formula(seed, temperature, alpha, squared):
    batch = random_batch(seed)
    loss = kd(*batch, temperature=temperature, alpha=alpha, scale_by_temperature_squared=squared)["loss"]
    assert loss.item() == pytest.approx(reference(*batch, temperature, alpha, squared), rel=1e-9, abs=1e-12)


def divergence(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> float:
    """KL in long double."""
    softened = [each.numpy().astype(np.longdouble) / temperature for each in (student, teacher)]
    log_p, log_q = (each - np.log(np.exp(each).sum(1, keepdims=True)) for each in softened)
    return float((np.exp(log_q) * (log_q - log_p)).sum(1).mean())


@given(seeds, st.floats(1, 1000), st.sampled_from([1e-6, 0.01, 0.1, 1.0]), st.sampled_from([0.1, 1.0, 10.0]))
def test_the_teachers_part_is_exact_and_never_negative_at_any_temperature(seed, temperature, apart, scale):
    """In float32 it was -0.006 at T = 1000 where it is 0.00005."""
    student, noise, labels = random_batch(seed)
    student = (scale * student).float()
    teacher = student + (apart * noise).float()
    student.requires_grad_()
    part = kd(student, teacher, labels, temperature=temperature, alpha=0.0)["teacher"]
    (gradient,) = torch.autograd.grad(part, student)
    student = student.detach()
    expected = temperature**2 * divergence(student, teacher, temperature)
    assert part.item() >= 0
    assert part.item() == pytest.approx(expected, rel=1e-5, abs=1e-9)
    p, q = (torch.softmax(each.double() / temperature, 1) for each in (student, teacher))
    exact = temperature * (p - q) / len(labels)
    torch.testing.assert_close(gradient.double(), exact, rtol=1e-5, atol=1e-6)


def test_the_teachers_part_under_vmap_is_as_exact():
    students, teachers = (torch.randn(2, 3, 7, 5, generator=torch.Generator().manual_seed(0)) * 0.1).unbind()
    labels, high = torch.zeros(7, dtype=torch.int64), torch.tensor(1000.0)

    def loss(student, teacher, alpha):
        return kd(student, teacher, labels, temperature=high, alpha=alpha)["teacher"]

    together = torch.func.vmap(loss)(students, teachers, torch.tensor([0.0, 0.5, 1.0]))
    expected = [1e6 * divergence(s, t, 1000) for s, t in zip(students, teachers, strict=True)]
    assert together.tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", [partial(kd, temperature=4.0), logit_mse])
@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_teacher_without_weight_may_say_anything(loss, broken):
    student, teacher, labels = random_batch(0)
    teacher[2, 1] = broken
    student.requires_grad_()
    made = loss(student, teacher, labels, alpha=1.0)["loss"]
    alone = cross_entropy(student, None, labels)["loss"]
    assert torch.equal(made, alone)
    assert torch.equal(*(torch.autograd.grad(each, student, retain_graph=True)[0] for each in (made, alone)))
    assert not loss(student, teacher, labels, alpha=0.9)["loss"].isfinite()


@given(seeds, temperatures)
def test_alpha_one_is_cross_entropy(seed, temperature):
    batch = random_batch(seed)
    torch.testing.assert_close(
        kd(*batch, temperature=temperature, alpha=1.0)["loss"], cross_entropy(*batch)["loss"]
    )


@given(seeds, temperatures)
def test_a_student_like_its_teacher_learns_nothing_from_it(seed, temperature):
    _, teacher, labels = random_batch(seed)
    assert kd(teacher, teacher, labels, temperature=temperature, alpha=0.0)["loss"].item() == pytest.approx(
        0, abs=1e-9
    )


@given(seeds)
def test_high_temperature_matches_centred_logits(seed):
    """As T grows, T² · KL tends to ‖(s - s̄) - (t - t̄)‖² / 2C (Hinton et al., section 2.1)."""
    student, teacher, labels = random_batch(seed)
    difference = student - teacher
    limit = (difference - difference.mean(1, keepdim=True)).pow(2).sum(1).mean() / (2 * student.shape[1])
    loss = kd(student, teacher, labels, temperature=1e4, alpha=0.0)["loss"]
    torch.testing.assert_close(loss, limit, rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_gradient(temperature, squared):
    student, teacher, labels = random_batch(0)
    student.requires_grad_()

    def loss(logits: torch.Tensor) -> torch.Tensor:
        return kd(
            logits, teacher, labels, temperature=temperature, alpha=0.3, scale_by_temperature_squared=squared
        )["loss"]

    assert torch.autograd.gradcheck(loss, student)


def test_several_students_at_once_with_their_own_temperature_and_alpha():
    """Under vmap, temperature and alpha being tensors, each gets the loss that it gets alone."""
    students = torch.stack([random_batch(seed)[0] for seed in range(3)])
    _, teacher, labels = random_batch(9)
    settings = torch.tensor([[1.0, 0.1], [4.0, 0.5], [16.0, 0.9]], dtype=torch.float64)

    def loss(student, setting):
        return kd(student, teacher, labels, temperature=setting[0], alpha=setting[1])["loss"]

    together = torch.func.vmap(loss)(students, settings)
    alone = [
        kd(s, teacher, labels, temperature=t, alpha=a)["loss"]
        for s, (t, a) in zip(students, settings.tolist(), strict=True)
    ]
    torch.testing.assert_close(together, torch.stack(alone))


def test_parts_are_unweighted():
    student, teacher, labels = random_batch(1)
    parts = kd(student, teacher, labels, temperature=2.0, alpha=0.25)
    torch.testing.assert_close(parts["loss"], 0.25 * parts["labels"] + 0.75 * parts["teacher"])
    torch.testing.assert_close(parts["labels"], cross_entropy(student, teacher, labels)["loss"])


@given(seeds, alphas)
def test_logit_mse_is_its_formula(seed, alpha):
    student, teacher, labels = random_batch(seed)
    s, t = student.numpy(), teacher.numpy()
    hard = softmax(s)
    entropy = np.mean([-np.log(hard[i, label]) for i, label in enumerate(labels.tolist())])
    expected = alpha * entropy + (1 - alpha) * np.mean((s - t) ** 2)
    loss = logit_mse(student, teacher, labels, alpha=alpha)["loss"].item()
    assert loss == pytest.approx(expected, rel=1e-9)


@given(seeds, temperatures, alphas)
def test_the_loss_from_several_teachers_is_the_mean_of_theirs(seed, temperature, alpha):
    student, teacher, labels = random_batch(seed)
    other = random_batch(seed + 1)[1]
    for loss in (partial(kd, temperature=temperature, alpha=alpha), partial(logit_mse, alpha=alpha)):
        together = loss(student, torch.stack([teacher, other]), labels)["loss"]
        each = [loss(student, one, labels)["loss"] for one in (teacher, other)]
        torch.testing.assert_close(together, sum(each) / 2)
