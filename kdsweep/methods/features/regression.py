"""Matching features as they are: by their squared difference, or by their direction."""

from torch import Size, Tensor, nn

from kdsweep.methods.shapes import need_features, same_size
from kdsweep.methods.vectors import unit


class _Adapted(nn.Module):
    """Where widths differ, a linear layer for embeddings [B, D] or a 1×1 convolution for maps [B, C, H, W]
    brings the student's to the teacher's, and learns; the larger map is averaged to the smaller.

    Raises ValueError unless both are maps or both are embeddings.
    """

    def __init__(self, student: Size, teacher: Size) -> None:
        super().__init__()
        need_features(student, teacher)
        self.adapter: nn.Module = nn.Identity()
        if student[1] != teacher[1]:
            is_map = len(student) == 4
            self.adapter = (
                nn.Conv2d(student[1], teacher[1], 1) if is_map else nn.Linear(student[1], teacher[1])
            )

    def matched(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Both with the same shape."""
        ours, theirs = same_size(student, teacher) if student.dim() == 4 else (student, teacher)
        return self.adapter(ours), theirs


class FeatureMSE(_Adapted):
    """The squared difference of features, averaged over all their numbers."""

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        ours, theirs = self.matched(student, teacher)
        return (ours - theirs).square().mean()


class FeatureCosine(_Adapted):
    """1 − the cosine of features, of a map at each pixel, averaged over images and pixels."""

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        ours, theirs = self.matched(student, teacher)
        return 1 - (unit(ours, 1) * unit(theirs, 1)).sum(1).mean()
