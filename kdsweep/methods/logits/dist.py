"""DIST: knowledge distillation from a stronger teacher (Huang et al. 2022, arXiv:2205.10536)."""

from torch import Tensor

from kdsweep.methods import of_whole_batch

EPSILON = 1e-8  # added to the product of two norms, as the authors do


@of_whole_batch
def dist(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: float | Tensor,
    beta: float | Tensor,
    gamma: float | Tensor,
) -> Tensor:
    """T² · (beta · inter + gamma · intra) of logits [B, C], a scalar.

    inter is 1 - Pearson's correlation of the student's and the teacher's probabilities at T over the classes,
    averaged over images; intra is the same over the batch's images, averaged over classes.
    """
    ours, theirs = ((logits.double() / temperature).softmax(-1) for logits in (student, teacher))
    inter = 1 - _correlation(ours, theirs).mean()
    intra = 1 - _correlation(ours.mT, theirs.mT).mean()
    return ((beta * inter + gamma * intra) * temperature**2).to(student.dtype)


def _correlation(first: Tensor, second: Tensor) -> Tensor:
    """Pearson's of each row; 0 for a row without variance."""
    first, second = (rows - rows.mean(-1, keepdim=True) for rows in (first, second))
    norms = first.norm(dim=-1) * second.norm(dim=-1)
    correlation: Tensor = (first * second).sum(-1) / (norms + EPSILON)
    return correlation
