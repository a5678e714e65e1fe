"""Knowledge review (Chen et al. 2021, arXiv:2104.09044)."""

from collections.abc import Sequence

import torch
from torch import Size, Tensor, nn
from torch.nn import functional as F

from kdsweep.methods.shapes import need_maps

WIDEST = 512  # channels of what is handed on
POOLED = (4, 2, 1)  # the sizes to which maps are also averaged before they are compared


class ReviewKD(nn.Module):
    """Σ over levels of the hierarchical context loss of the teacher's maps and the student's fused ones.

    Levels are maps [B, C, H, W], first to last; an embedding [B, D] counts as a map of one pixel. From the
    deepest level on, a fusion mixes the student's map with the result of the deeper level, hands the mixture
    on, and makes of it a map of the teacher's size. The fusions learn. Raises ValueError unless both networks
    have as many levels, and for taps that are no lists.
    """

    def __init__(self, student: Sequence[Size], teacher: Sequence[Size]) -> None:
        super().__init__()
        if isinstance(student, Size) or isinstance(teacher, Size):
            raise ValueError("needs lists of taps, such as taps.student=[stages,embedding]")
        ours, theirs = (
            [Size((*shape, 1, 1)) if len(shape) == 2 else shape for shape in shapes]
            for shapes in (student, teacher)
        )
        need_maps(*ours, *theirs)
        if len(ours) != len(theirs):
            raise ValueError(f"the student has {len(ours)} taps, the teacher {len(theirs)}")
        width = min(WIDEST, ours[-1][1])
        self.fusions = nn.ModuleList(
            Fusion(inputs[1], width, outputs[1], is_deepest=number == len(ours))
            for number, (inputs, outputs) in enumerate(zip(ours, theirs, strict=True), start=1)
        )

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        losses, deeper = [], None
        levels = zip(self.fusions, map(_as_map, student), map(_as_map, teacher), strict=True)
        for fusion, ours, theirs in reversed(list(levels)):
            made, deeper = fusion(ours, deeper, theirs.shape[2:])
            losses.append(hierarchical_context_loss(made, theirs))
        return torch.stack(losses).sum()


class Fusion(nn.Module):
    """The paper's attention-based fusion: a map of the teacher's shape, and what is handed on."""

    def __init__(self, inputs: int, width: int, outputs: int, is_deepest: bool) -> None:
        super().__init__()
        self.narrow = _normalized(nn.Conv2d(inputs, width, 1, bias=False))
        self.attention = (
            None if is_deepest else nn.Sequential(nn.Conv2d(2 * width, 2, 1), nn.Sigmoid())
        )  # how much of each, per pixel
        self.widen = _normalized(nn.Conv2d(width, outputs, 3, padding=1, bias=False))

    def forward(self, own: Tensor, deeper: Tensor | None, size: Size) -> tuple[Tensor, Tensor]:
        mixed = self.narrow(own)
        if self.attention is not None and deeper is not None:
            enlarged = _resized(deeper, mixed.shape[2:])
            shares = self.attention(torch.cat((mixed, enlarged), dim=1))
            mixed = shares[:, :1] * mixed + shares[:, 1:] * enlarged
        mixed = _resized(mixed, size)
        return self.widen(mixed), mixed


def hierarchical_context_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """The weighted mean squared difference of maps [B, C, H, W], whole and averaged to 4×4, 2×2 and 1×1.

    Sizes that are not smaller than the maps are left out; each weighs half of the one before.
    """
    smallest = min(student.shape[2:])
    sizes = [None, *(size for size in POOLED if size < smallest)]
    weights = [0.5**number for number in range(len(sizes))]
    losses = [F.mse_loss(_averaged(student, size), _averaged(teacher, size)) for size in sizes]
    weighted = [loss * weight for loss, weight in zip(losses, weights, strict=True)]
    return torch.stack(weighted).sum() / sum(weights)


def _normalized(convolution: nn.Conv2d) -> nn.Sequential:
    nn.init.kaiming_uniform_(convolution.weight, a=1)
    return nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels))


def _averaged(maps: Tensor, size: int | None) -> Tensor:
    return maps if size is None else F.adaptive_avg_pool2d(maps, size)


def _resized(maps: Tensor, size: Size) -> Tensor:
    return maps if maps.shape[2:] == size else F.interpolate(maps, tuple(size), mode="nearest")


def _as_map(value: Tensor) -> Tensor:
    return value[..., None, None] if value.dim() == 2 else value
