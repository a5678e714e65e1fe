"""Transformed teacher matching (Zheng & Yang 2024, arXiv:2402.11148), plain and weighted."""

from torch import Tensor


def ttm(student: Tensor, teacher: Tensor, *, gamma: float | Tensor) -> Tensor:
    """KL(softmax(gamma · t) ‖ softmax(s)) of logits [B, C], averaged over the batch.

    The teacher's probabilities are raised to the power gamma, below 1, and normalized: this is a temperature
    of 1 / gamma for the teacher alone.
    """
    loss = _divergence(student, teacher, gamma).mean()
    return loss.to(student.dtype)


def wttm(student: Tensor, teacher: Tensor, *, gamma: float | Tensor) -> Tensor:
    """ttm with the weight Σ_c q_c^gamma for each image, where q is the teacher's softmax(t).

    The weight lies between 1, of a sure teacher, and C^(1 - gamma), of one that knows nothing.
    """
    unsure = (gamma * teacher.double().log_softmax(-1)).exp().sum(-1)
    loss = (unsure * _divergence(student, teacher, gamma)).mean()
    return loss.to(student.dtype)


def _divergence(student: Tensor, teacher: Tensor, gamma: float | Tensor) -> Tensor:
    """KL [B], in float64, since the published weights are large."""
    target = (gamma * teacher.double()).log_softmax(-1)
    return (target.exp() * (target - student.double().log_softmax(-1))).sum(-1).clamp(min=0)
