"""Correlation congruence (Peng et al. 2019, arXiv:1904.01802), in RepDistiller's form, not the paper's."""

from torch import Size, Tensor, nn

from kdsweep.methods import of_whole_batch
from kdsweep.methods.shapes import need_vectors


@of_whole_batch
class CC(nn.Module):
    """The product of the differences of two neighbours in the batch, summed over `width` numbers and averaged
    over the B − 1 pairs.

    An image's difference is |W_s e_s − W_t e_t| of embeddings [B, D], number by number; both projections
    learn. The paper compares kernels of all pairs of images instead. Raises ValueError for embeddings that
    are no [B, D].
    """

    def __init__(self, student: Size, teacher: Size, *, width: int = 128) -> None:
        super().__init__()
        need_vectors(student, teacher)
        self.student, self.teacher = nn.Linear(student[1], width), nn.Linear(teacher[1], width)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        apart = (self.student(student) - self.teacher(teacher)).abs()
        loss: Tensor = (apart[:-1] * apart[1:]).sum(1).mean()
        return loss
