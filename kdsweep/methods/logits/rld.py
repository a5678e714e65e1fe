"""Refined logit distillation (Sun et al. 2024, arXiv:2408.07703)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from kdsweep.methods.logits.dkd import decoupled, divergence


def rld(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    *,
    temperature: float | Tensor,
    alpha: float | Tensor,
    beta: float | Tensor,
    label_temperature: float | Tensor,
) -> Tensor:
    """alpha · T_y² · SCD + beta · T² · MCD of logits [B, C], averaged over the batch.

    SCD is the KL of [p, 1 - p] at `label_temperature` T_y; the teacher's p is that of the class it prefers,
    the student's that of the label. MCD is the KL at T of the softmax over the classes to which the teacher
    gives less than to the label; it is 0 for an image without such a class.
    """
    ours, theirs = student.double(), teacher.double()
    of_label, of_best = (
        F.one_hot(classes, student.shape[-1]).bool() for classes in (labels, theirs.argmax(-1))
    )
    aim, _ = decoupled(theirs / label_temperature, of_best)
    reached, _ = decoupled(ours / label_temperature, of_label)
    above = theirs >= theirs.where(of_label, 0).sum(-1, keepdim=True)
    none = above.all(-1, keepdim=True)
    target, softened = (
        (each / temperature).masked_fill(above & ~none, -torch.inf).log_softmax(-1) for each in (theirs, ours)
    )
    masked = divergence(target, softened).masked_fill(none[..., 0], 0)
    loss = alpha * label_temperature**2 * divergence(aim, reached) + beta * temperature**2 * masked
    return loss.mean().to(student.dtype)
