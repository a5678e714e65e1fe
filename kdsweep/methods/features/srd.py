"""A simple recipe with a projector (Miles & Mikolajczyk 2023, arXiv:2303.11098), its loss of features."""

from torch import Size, Tensor, nn
from torch.nn import functional as F

from kdsweep.methods import of_whole_batch
from kdsweep.methods.shapes import need_vectors

OF_VARIANCE = 1e-4  # the authors'; it bounds what a feature without variance is multiplied by
EPSILON = 1e-8  # of the sum, whose logarithm has neither value nor gradient at a perfect match


@of_whole_batch
class SRD(nn.Module):
    """log Σ |z_s − z_t|^exponent over images and numbers, of standardized embeddings [B, D].

    A linear projection, which learns, brings the student's embedding to the teacher's width. Each number of
    the projection and of the teacher's embedding is then standardized over the batch. Raises ValueError for
    embeddings that are no [B, D].
    """

    def __init__(self, student: Size, teacher: Size, *, exponent: float = 4.0) -> None:
        super().__init__()
        need_vectors(student, teacher)
        self.projection, self.exponent = nn.Linear(student[1], teacher[1]), exponent

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        return log_distance(self.projection(student), teacher, self.exponent)


def log_distance(student: Tensor, teacher: Tensor, exponent: float) -> Tensor:
    """log Σ |z_s − z_t|^exponent of vectors [B, D] of one width."""
    apart = (_standardized(student) - _standardized(teacher)).abs()
    return (apart.pow(exponent).sum() + EPSILON).log()


def _standardized(vectors: Tensor) -> Tensor:
    return F.batch_norm(vectors, None, None, training=True, eps=OF_VARIANCE)
