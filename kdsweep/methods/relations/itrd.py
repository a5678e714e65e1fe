"""Information-theoretic representation distillation (Miles et al. 2021, arXiv:2112.00459)."""

import torch
from torch import Size, Tensor, nn

from kdsweep.methods import of_whole_batch
from kdsweep.methods.shapes import need_vectors
from kdsweep.methods.vectors import over, unit

EPSILON = 1e-8  # of the sum, whose logarithm has neither value nor gradient at a perfect match
ROUNDING = 1e-6  # deviations below this share of a number's size are float32's rounding


@of_whole_batch
class ITRD(nn.Module):
    """`correlation` times the loss of correlations plus `mutual` times that of mutual information, of
    embeddings [B, D].

    A linear layer, which learns, brings the student's embedding to the teacher's width; the mutual part takes
    it only if the widths differ. Raises ValueError for embeddings that are no [B, D].
    """

    def __init__(
        self,
        student: Size,
        teacher: Size,
        *,
        correlation: float = 2.0,
        mutual: float = 1.0,
        alpha: float = 1.01,
    ) -> None:
        super().__init__()
        need_vectors(student, teacher)
        self.correlation, self.mutual, self.alpha = correlation, mutual, alpha
        self.projection, self.same_width = nn.Linear(student[1], teacher[1]), student[1] == teacher[1]

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        projected = self.projection(student)
        loss = self.correlation * correlation_loss(projected, teacher, self.alpha)
        return loss + self.mutual * mutual_loss(student if self.same_width else projected, teacher)


def correlation_loss(student: Tensor, teacher: Tensor, alpha: float) -> Tensor:
    """log₂ Σ |1 − c|^2α over the numbers of vectors [B, D], c being a number's correlation over the batch.

    c is (B − 1) / B for a perfect match, as in the authors' code, and 0 for a number that does not vary.
    """
    correlation = (_standardized(student) * _standardized(teacher)).mean(0)
    return ((1 - correlation).square().pow(alpha).sum() + EPSILON).log2()


def mutual_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Σ (G_s² − G_st²) over all pairs of images of the cosines G_s and of their products with the teacher's,
    G_st, each divided by its trace; vectors [B, D]."""
    ours, theirs = unit(student), unit(teacher)
    own = ours @ ours.T
    joint = own * (theirs @ theirs.T)
    return (over(own, own.trace()).square() - over(joint, joint.trace()).square()).sum()


def _standardized(vectors: Tensor) -> Tensor:
    centred, deviation = vectors - vectors.mean(0), vectors.std(0)
    constant = deviation <= ROUNDING * vectors.abs().amax(0)
    return centred / deviation.masked_fill(constant, torch.inf)
