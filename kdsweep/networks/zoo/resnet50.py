"""ResNet-50, the ImageNet network of He et al. 2016, for small images."""

from itertools import pairwise
from typing import ClassVar

from torch import Tensor, nn

from kdsweep.networks.zoo.named import STEM, Named, in_blocks, numbered
from kdsweep.networks.zoo.resnet import he_initialize

BLOCKS = (3, 4, 6, 3)
WIDTHS = (64, 256, 512, 1024, 2048)  # of the stem and of the stages
NARROWER = 4  # the factor between a stage's width and that of its 3×3 convolutions


class ResNet50(Named):
    """Raw logits [B, num_classes]; 23,705,252 parameters for 3 channels and 100 classes.

    As in the distillation papers (Tian et al. 2020): the stem is a 3×3 convolution and does not pool, so
    that images of 32×32 become maps of 32×32, 16×16, 8×8 and 4×4.
    """

    repdistiller: ClassVar = {
        **STEM,
        **in_blocks("residual", "conv1 bn1 - conv2 bn2 - conv3 bn3"),
        **in_blocks("shortcut", "shortcut.0 shortcut.1"),
        "head": "linear",
    }

    def __init__(self, num_classes: int, in_channels: int, image_size: tuple[int, int]) -> None:
        stages = [
            _stage(inputs, outputs, blocks, stride=1 if number == 0 else 2)
            for number, ((inputs, outputs), blocks) in enumerate(zip(pairwise(WIDTHS), BLOCKS, strict=True))
        ]
        stem = WIDTHS[0]
        super().__init__(
            stem=nn.Sequential(
                nn.Conv2d(in_channels, stem, 3, padding=1, bias=False),
                nn.BatchNorm2d(stem),
                nn.ReLU(inplace=True),
            ),
            **numbered("stage", stages),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            head=nn.Linear(WIDTHS[-1], num_classes),
        )
        he_initialize(self)


def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    rest = [Bottleneck(outputs, outputs, 1) for _ in range(blocks - 1)]
    return nn.Sequential(Bottleneck(inputs, outputs, stride), *rest)


class Bottleneck(nn.Module):
    """[B, inputs, H, W] → [B, outputs, ⌈H/stride⌉, ⌈W/stride⌉]: three convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        width = outputs // NARROWER
        self.residual = nn.Sequential(
            nn.Conv2d(inputs, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )
        self.activation = nn.ReLU()  # not in place, because methods look at its input

    def forward(self, features: Tensor) -> Tensor:
        out: Tensor = self.activation(self.residual(features) + self.shortcut(features))
        return out
