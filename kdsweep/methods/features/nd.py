"""Norm and direction of features (Wang et al. 2023, arXiv:2305.17007), the ++ of KD++ and DKD++."""

from collections.abc import Iterable

import torch
from torch import Size, Tensor, nn

from kdsweep.methods.shapes import need_vectors
from kdsweep.methods.vectors import over, unit


class ND(nn.Module):
    """1 − ⟨e_s, c_y⟩ / max(‖e_s‖, ‖e_t‖) of embeddings [B, D], averaged over the batch.

    c_y is the direction of the teacher's mean embedding of the training images of the label's class. The loss
    is small for a student's embedding of that direction which is no shorter than the teacher's. If the widths
    differ, batch normalization and a linear layer, which learn, bring the student's to the
    teacher's. Raises ValueError for embeddings that are no [B, D].
    """

    directions: Tensor

    def __init__(
        self,
        student: Size,
        teacher: Size,
        num_classes: int,
        teacher_outputs: Iterable[tuple[Tensor, Tensor]],
    ) -> None:
        super().__init__()
        need_vectors(student, teacher)
        (_, ours), (_, theirs) = student, teacher
        self.adapter: nn.Module = nn.Identity()
        if ours != theirs:
            self.adapter = nn.Sequential(nn.BatchNorm1d(ours), nn.Linear(ours, theirs))
        self.register_buffer("directions", _class_directions(teacher_outputs, num_classes, theirs))

    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        adapted: Tensor = self.adapter(student)
        along = (adapted * self.directions[labels]).sum(1)
        longer = torch.maximum(adapted.norm(dim=1), teacher.norm(dim=1))
        return (1 - over(along, longer)).mean()


def _class_directions(outputs: Iterable[tuple[Tensor, Tensor]], num_classes: int, width: int) -> Tensor:
    """[C, D]; a sum has the direction of the mean. A class without images has zeros."""
    sums = torch.zeros(num_classes, width, dtype=torch.float64)
    for embeddings, labels in outputs:  # on the CPU, where the order of sums is always the same
        sums.index_add_(0, labels.cpu(), embeddings.double().cpu())
    return unit(sums).float()
