"""Inter-channel correlation distillation (Liu et al. 2021, arXiv:2202.03680), for classification."""

from torch import Size, Tensor, nn

from kdsweep.methods.shapes import need_maps
from kdsweep.methods.vectors import unit


class ICKD(nn.Module):
    """The squared difference of the networks' correlations of channels, summed over one channel of a pair and
    averaged over the other and over the images.

    The correlations of a channel are its products with all channels of the image, summed over the pixels, as
    a vector of length 1. The student's map goes through a 1×1 convolution to the teacher's channels and batch
    normalization, which learn. The maps may differ in height and width. Raises ValueError for what is no map.
    """

    def __init__(self, student: Size, teacher: Size) -> None:
        super().__init__()
        need_maps(student, teacher)
        self.adapter = nn.Sequential(
            nn.Conv2d(student[1], teacher[1], 1, bias=False), nn.BatchNorm2d(teacher[1])
        )

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        difference = correlations(self.adapter(student)) - correlations(teacher)
        return difference.square().sum(2).mean()


def correlations(maps: Tensor) -> Tensor:
    """[B, C, C] of maps [B, C, H, W], rows of length 1."""
    flat = maps.flatten(2)
    return unit(flat @ flat.mT)
