"""Decoupled knowledge distillation (Zhao et al. 2022, arXiv:2203.08679, equation 7)."""

import torch
from torch import Tensor
from torch.nn import functional as F


def dkd(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    *,
    temperature: float | Tensor,
    alpha: float | Tensor,
    beta: float | Tensor,
) -> Tensor:
    """T² · (alpha · TCKD + beta · NCKD) of logits [B, C], averaged over the batch.

    TCKD is the KL of the label's probability and the rest's, [p, 1 - p]; NCKD that of the softmax over the
    classes which are not the label. With beta = 1 - p of the teacher, alpha = 1, it is kd's loss.
    """
    # as in kd, T² would multiply the rounding of a float32 sum
    of_label = F.one_hot(labels, student.shape[-1]).bool()
    binary_student, others_student = decoupled(student.double() / temperature, of_label)
    binary_teacher, others_teacher = decoupled(teacher.double() / temperature, of_label)
    target = divergence(binary_teacher, binary_student)
    others = divergence(others_teacher, others_student)
    loss = (alpha * target + beta * others).mean() * temperature**2
    return loss.to(student.dtype)


def decoupled(logits: Tensor, of_label: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of label and rest, [B, 2], and of the other classes among themselves, [B, C].

    The label's place has -inf there. 1 - p comes from the others' logits: subtracting p would round it to 0.
    """
    others = logits.masked_fill(of_label, -torch.inf)
    label, rest, every = (logits.where(of_label, 0).sum(-1), others.logsumexp(-1), logits.logsumexp(-1))
    return torch.stack((label - every, rest - every), dim=-1), others - rest[..., None]


def divergence(target: Tensor, softened: Tensor) -> Tensor:
    """KL [B] of log-probabilities; a class that both rule out adds nothing."""
    ruled_out = target.isneginf()
    return (target.exp() * (target - softened).masked_fill(ruled_out, 0)).sum(-1)
