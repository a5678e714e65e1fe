"""Cross-layer distillation with semantic calibration (Chen et al. 2021, arXiv:2012.03236)."""

from collections.abc import Sequence
from itertools import product

import torch
from torch import Size, Tensor, nn
from torch.nn import functional as F

from kdsweep.methods import of_whole_batch, unpaired
from kdsweep.methods.shapes import need_several, same_size

FACTOR = 4  # by which queries and keys are narrower than a batch is large


@unpaired
@of_whole_batch
class SemCKD(nn.Module):
    """The mean over images and the student's stages of Σ_j a_ij · mean (p_ij(F_i) - F_j)² over the teacher's.

    p_ij are three convolutions, which learn. The attention a_ij of an image is the softmax over j of
    q_i · k_j / `softness`: q_i and k_j, of length 1, come from the image's row of F F^T, its products with
    the batch's images, through perceptrons that learn. They take `batch_size` numbers, so a smaller batch's
    rows are filled up with zeros. The larger map [B, C, H, W] is averaged to the size of the smaller. Raises
    ValueError for what is no list of maps.
    """

    def __init__(
        self, student: Sequence[Size], teacher: Sequence[Size], batch_size: int, *, softness: float = 1.0
    ) -> None:
        super().__init__()
        need_several(student, teacher)
        self.batch_size, self.softness = batch_size, softness
        self.queries = nn.ModuleList(_perceptron(batch_size) for _ in student)
        self.keys = nn.ModuleList(_perceptron(batch_size) for _ in teacher)
        self.projections = nn.ModuleList(
            _projection(ours[1], theirs[1]) for ours, theirs in product(student, teacher)
        )

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        attention = self.attention(student, teacher)
        differences = [
            _difference(projection, *maps)
            for projection, maps in zip(self.projections, product(student, teacher), strict=True)
        ]
        return (attention * torch.stack(differences).view_as(attention)).sum(1).mean()

    def attention(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """Weights [n_s, n_t, B] of the teacher's stages, whose sum is 1 for each of the student's."""
        queries, keys = (
            torch.stack([F.normalize(each(self._row(maps))) for each, maps in zip(*side, strict=True)])
            for side in ((self.queries, student), (self.keys, teacher))
        )
        return (torch.einsum("ibd,jbd->ijb", queries, keys) / self.softness).softmax(dim=1)

    def _row(self, maps: Tensor) -> Tensor:
        flat = maps.flatten(1)
        return F.pad(flat @ flat.T, (0, self.batch_size - len(maps)))


def _perceptron(batch_size: int) -> nn.Sequential:
    width = max(batch_size // FACTOR, 1)
    return nn.Sequential(nn.Linear(batch_size, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))


def _projection(inputs: int, outputs: int) -> nn.Sequential:
    width = 2 * outputs
    return nn.Sequential(
        nn.Conv2d(inputs, width, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, outputs, 1, bias=False),
    )


def _difference(projection: nn.Module, student: Tensor, teacher: Tensor) -> Tensor:
    """The mean squared difference of each image, [B]."""
    student, teacher = same_size(student, teacher)
    difference: Tensor = projection(student) - teacher
    return difference.square().mean((1, 2, 3))
