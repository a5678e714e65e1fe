"""Weighted soft labels (Zhou et al. 2021, arXiv:2102.00650)."""

import torch
from torch import Tensor
from torch.nn import functional as F

EPSILON = 1e-7  # so that a sure teacher's cross-entropy can be divided by


def wsld(student: Tensor, teacher: Tensor, labels: Tensor, *, temperature: float | Tensor) -> Tensor:
    """T² · w · (− Σ q_T · log p_T) of logits [B, C], averaged over the batch.

    p_T and q_T are the student's and the teacher's probabilities at T. An image's weight
    w = 1 - exp(− CE(s, y) / CE(t, y)), of cross-entropies at T = 1, is small where the student knows the
    label better than the teacher; it has no gradient.
    """
    ours, theirs = student.double(), teacher.double()
    with torch.no_grad():
        losses = [F.cross_entropy(logits, labels, reduction="none") for logits in (ours, theirs)]
        weights = -torch.expm1(-losses[0] / (losses[1] + EPSILON))
    target, softened = (theirs / temperature).softmax(-1), (ours / temperature).log_softmax(-1)
    loss = -(weights * (target * softened).sum(-1)).mean() * temperature**2
    return loss.to(student.dtype)
