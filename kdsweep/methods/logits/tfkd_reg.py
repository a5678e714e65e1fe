"""Teacher-free regularization, Tf-KD_reg (Yuan et al. 2019, arXiv:1909.11723)."""

import torch
from torch import Tensor
from torch.nn import functional as F


def tfkd_reg(student: Tensor, labels: Tensor, *, temperature: float | Tensor, correct: float) -> Tensor:
    """KL(softmax(u / T) ‖ softmax(s)) of logits [B, C], summed over classes, averaged over the batch.

    The invented teacher u gives the label the probability `correct`, and each other class an equal share of
    the rest. T divides these probabilities, not logits, and nothing of the student's. Raises ValueError
    unless `correct` is in (0, 1].
    """
    if not 0 < correct <= 1:
        raise ValueError(f"correct={correct}: must be above 0, and at most 1")
    classes = student.shape[-1]
    rest = (1 - correct) / max(classes - 1, 1)
    teacher = torch.full_like(student, rest).masked_fill(F.one_hot(labels, classes).bool(), correct)
    target, given = (teacher / temperature).log_softmax(-1), student.log_softmax(-1)
    return (target.exp() * (target - given)).sum(-1).mean()
