"""MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381) for small images."""

from typing import ClassVar

from torch import Tensor, nn

from kdsweep.networks.zoo.named import Named, numbered
from kdsweep.networks.zoo.resnet import he_initialize

# (expansion, channels at width 1, blocks, stride) of the groups of blocks in each stage
STAGES = (
    ((1, 16, 1, 1), (6, 24, 2, 1)),
    ((6, 32, 3, 2),),
    ((6, 64, 4, 2), (6, 96, 3, 1)),
    ((6, 160, 3, 2), (6, 320, 1, 1)),
)
STEM, LAST = 32, 1280


class MobileNetV2(Named):
    """Raw logits [B, num_classes]; 812,836 parameters at width 0.5 for 3 channels and 100 classes.

    As in the distillation papers (Tian et al. 2020): images are halved by the first convolution and before
    stages 2, 3 and 4, so that 32×32 become 2×2; activations are ReLU, not ReLU6; `width` is a factor of all
    channels, but of the last convolution's only above 1. Blocks end in a linear layer, so that stages have no
    `.pre`.
    """

    repdistiller: ClassVar = {
        r"stem\.(\d)": r"conv1.\1",
        r"stage1\.(\d)\.(\d)\.residual\.(\d)": r"blocks.\1.\2.conv.\3",
        r"stage2\.0\.(\d)\.residual\.(\d)": r"blocks.2.\1.conv.\2",
        r"stage3\.0\.(\d)\.residual\.(\d)": r"blocks.3.\1.conv.\2",
        r"stage3\.1\.(\d)\.residual\.(\d)": r"blocks.4.\1.conv.\2",
        r"stage4\.0\.(\d)\.residual\.(\d)": r"blocks.5.\1.conv.\2",
        r"stage4\.1\.(\d)\.residual\.(\d)": r"blocks.6.\1.conv.\2",
        r"widen\.(\d)": r"conv2.\1",
        "head": "classifier.0",
    }

    def __init__(
        self, num_classes: int, in_channels: int, image_size: tuple[int, int], width: float = 0.5
    ) -> None:
        if STAGES[0][0][1] * width < 1:
            raise ValueError(f"width={width}; allowed: 0.0625 or more")
        stem, last = int(STEM * width), int(LAST * max(width, 1))
        stages, channels = [], stem
        for groups in STAGES:
            parts = []
            for expansion, outputs, blocks, stride in groups:
                parts.append(_group(channels, int(outputs * width), expansion, blocks, stride))
                channels = int(outputs * width)
            stages.append(nn.Sequential(*parts))
        head = nn.Linear(last, num_classes)
        super().__init__(
            stem=_activated(nn.Conv2d(in_channels, stem, 3, 2, padding=1, bias=False)),
            **numbered("stage", stages),
            widen=_activated(nn.Conv2d(channels, last, 1, bias=False)),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            head=head,
        )
        he_initialize(self)
        nn.init.normal_(head.weight, std=0.01)


def _activated(convolution: nn.Conv2d) -> nn.Sequential:
    # not in place, because methods look at its input
    return nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU())


def _group(inputs: int, outputs: int, expansion: int, blocks: int, stride: int) -> nn.Sequential:
    rest = [InvertedResidual(outputs, outputs, expansion, 1) for _ in range(blocks - 1)]
    return nn.Sequential(InvertedResidual(inputs, outputs, expansion, stride), *rest)


class InvertedResidual(nn.Module):
    """[B, inputs, H, W] → [B, outputs, ⌈H/stride⌉, ⌈W/stride⌉]; wide inside, and linear at its end."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        width = inputs * expansion
        self.residual = nn.Sequential(
            nn.Conv2d(inputs, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, stride, padding=1, groups=width, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.has_shortcut = stride == 1 and inputs == outputs

    def forward(self, features: Tensor) -> Tensor:
        out: Tensor = self.residual(features)
        return features + out if self.has_shortcut else out
