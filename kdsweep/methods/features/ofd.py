"""Overhaul of feature distillation (Heo et al. 2019, arXiv:1904.01866)."""

from collections.abc import Iterable, Sequence

import torch
from torch import Size, Tensor, nn

from kdsweep.methods.shapes import need_several, same_size


class OFD(nn.Module):
    """Σ_l 2^(l - L) · the partial distance of maps before the last ReLU of stage l, averaged over images.

    The target is max(F_t, m), where m is the mean of the negative values that the teacher's channel has on
    the training images, or 0 if it has none. The distance is the sum over channels and pixels of
    (r(F_s) - target)², except where r(F_s) ≤ target ≤ 0. r is a 1×1 convolution and batch normalization,
    which learn. The larger map [B, C, H, W] is averaged to the size of the smaller. Raises ValueError for
    what is no list of maps.
    """

    def __init__(
        self,
        student: Sequence[Size],
        teacher: Sequence[Size],
        teacher_outputs: Iterable[tuple[Sequence[Tensor], Tensor]],
    ) -> None:
        super().__init__()
        need_several(student, teacher)
        self.connectors = nn.ModuleList(
            _connector(ours[1], theirs[1]) for ours, theirs in zip(student, teacher, strict=True)
        )
        for number, margin in enumerate(_margins(maps for maps, _ in teacher_outputs)):
            self.register_buffer(f"margin{number}", margin)

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        losses = []
        for number, (ours, theirs) in enumerate(zip(student, teacher, strict=True)):
            ours, theirs = same_size(ours, theirs)
            target = theirs.maximum(self.get_buffer(f"margin{number}"))
            distance = _partial_distance(self.connectors[number](ours), target)
            losses.append(distance / 2 ** (len(student) - 1 - number))
        return torch.stack(losses).sum()


def _connector(inputs: int, outputs: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs))


def _partial_distance(student: Tensor, target: Tensor) -> Tensor:
    satisfied = (student <= target) & (target <= 0)
    squares = (student - target).square().masked_fill(satisfied, 0)
    return squares.sum() / len(student)


@torch.no_grad()
def _margins(batches: Iterable[Sequence[Tensor]]) -> list[Tensor]:
    """E[x | x < 0] of each channel, [C, 1, 1] for each map; 0 for a channel that is never negative."""
    sums: list[Tensor] = []
    counts: list[Tensor] = []
    for maps in batches:
        negative = [values.double().clamp(max=0).sum((0, 2, 3)) for values in maps]
        number = [(values < 0).sum((0, 2, 3)) for values in maps]
        sums = [a + b for a, b in zip(sums, negative, strict=True)] if sums else negative
        counts = [a + b for a, b in zip(counts, number, strict=True)] if counts else number
    return [(a / b.clamp(min=1)).float()[:, None, None] for a, b in zip(sums, counts, strict=True)]
