"""FitNets (Romero et al. 2014, arXiv:1412.6550), in one stage as RepDistiller and mdistiller train them."""

from torch import Size, Tensor, nn

from kdsweep.methods.shapes import need_maps


class FitNet(nn.Module):
    """The mean squared difference of the teacher's map and the student's after a regressor, which learns.

    The regressor is a convolution, batch normalization and, with `relu`, a ReLU. The convolution halves or
    doubles the student's map, or narrows it without padding, to the size of the teacher's. A teacher's map
    with negative values, as from a WRN, cannot be met behind a ReLU. Raises ValueError for maps whose sizes
    do not fit, or what is no map.
    """

    def __init__(self, student: Size, teacher: Size, *, relu: bool = True) -> None:
        super().__init__()
        need_maps(student, teacher)
        parts = [_resize(student, teacher), nn.BatchNorm2d(teacher[1]), *([nn.ReLU()] if relu else [])]
        self.regressor = nn.Sequential(*parts)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        loss: Tensor = (self.regressor(student) - teacher).square().mean()
        return loss


def _resize(student: Size, teacher: Size) -> nn.Module:
    """A convolution from maps of the student's size [B, C, H, W] to the teacher's."""
    (_, inputs, *size), (_, outputs, *wanted) = student, teacher
    if all(ours == 2 * theirs for ours, theirs in zip(size, wanted, strict=True)):
        return nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)
    if all(2 * ours == theirs for ours, theirs in zip(size, wanted, strict=True)):
        return nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1)
    if any(ours < theirs for ours, theirs in zip(size, wanted, strict=True)):
        ours, theirs = ("×".join(map(str, each)) for each in (size, wanted))
        raise ValueError(f"the student's map has {ours} pixels, the teacher's {theirs}; take other taps")
    kernel = [1 + ours - theirs for ours, theirs in zip(size, wanted, strict=True)]
    return nn.Conv2d(inputs, outputs, tuple(kernel))  # type: ignore[arg-type]
