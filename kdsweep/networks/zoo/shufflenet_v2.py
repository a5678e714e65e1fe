"""ShuffleNetV2 (Ma et al. 2018, arXiv:1807.11164) for small images."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from kdsweep.networks.zoo.named import STEM, Named, in_blocks, numbered
from kdsweep.networks.zoo.shufflenet_v1 import Shuffle

FIRST = 24  # channels of the stem
WIDTHS = {0.5: (48, 96, 192), 1.0: (116, 232, 464), 1.5: (176, 352, 704)}  # of the stages
BLOCKS = (4, 8, 4)
LAST = 1024


class ShuffleNetV2(Named):
    """Raw logits [B, num_classes]; 1,355,528 parameters at width 1 for 3 channels and 100 classes.

    As in the distillation papers (Tian et al. 2020): the stem is a 1×1 convolution and does not pool, and
    each stage halves the image, so that 32×32 become 4×4.
    """

    repdistiller: ClassVar = {
        **STEM,
        **in_blocks("left", "conv1 bn1 conv2 bn2"),
        **in_blocks("right", "conv3 bn3 - conv4 bn4 conv5 bn5"),
        **in_blocks("branch", "conv1 bn1 - conv2 bn2 conv3 bn3"),
        r"widen\.0": "conv2",
        r"widen\.1": "bn2",
        "head": "linear",
    }

    def __init__(
        self, num_classes: int, in_channels: int, image_size: tuple[int, int], width: float = 1.0
    ) -> None:
        if width not in WIDTHS:
            raise ValueError(f"width={width}; allowed: {', '.join(f'{each:g}' for each in WIDTHS)}")
        stages, channels = [], FIRST
        for outputs, blocks in zip(WIDTHS[width], BLOCKS, strict=True):
            rest = [SplitBlock(outputs) for _ in range(blocks - 1)]
            stages.append(nn.Sequential(DownBlock(channels, outputs), *rest))
            channels = outputs
        super().__init__(
            stem=nn.Sequential(
                nn.Conv2d(in_channels, FIRST, 1, bias=False), nn.BatchNorm2d(FIRST), nn.ReLU(inplace=True)
            ),
            **numbered("stage", stages),
            # not in place, because methods look at its input
            widen=nn.Sequential(nn.Conv2d(channels, LAST, 1, bias=False), nn.BatchNorm2d(LAST), nn.ReLU()),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            head=nn.Linear(LAST, num_classes),
        )


class DownBlock(nn.Module):
    """[B, inputs, H, W] → [B, outputs, ⌈H/2⌉, ⌈W/2⌉]: two branches, whose channels are shuffled."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = outputs // 2
        self.left = nn.Sequential(
            _depthwise(inputs, 2), nn.BatchNorm2d(inputs), _pointwise(inputs, half), nn.BatchNorm2d(half)
        )
        self.right = _branch(inputs, half, stride=2)
        self.shuffle = Shuffle(2)
        self.activation = nn.ReLU()  # not in place, because methods look at its input

    def forward(self, features: Tensor) -> Tensor:
        both = torch.cat((self.left(features), self.right(features)), 1)
        out: Tensor = self.activation(self.shuffle(both))
        return out


class SplitBlock(nn.Module):
    """[B, channels, H, W] → the same: a half is kept, a half convolved, and both are shuffled."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = _branch(channels // 2, channels // 2, stride=1)
        self.shuffle = Shuffle(2)
        self.activation = nn.ReLU()  # leaves the kept half as it is, since a ReLU gave it

    def forward(self, features: Tensor) -> Tensor:
        kept, changed = features.chunk(2, 1)
        out: Tensor = self.activation(self.shuffle(torch.cat((kept, self.branch(changed)), 1)))
        return out


def _branch(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Up to its last activation, which the block has."""
    return nn.Sequential(
        _pointwise(inputs, outputs),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        _depthwise(outputs, stride),
        nn.BatchNorm2d(outputs),
        _pointwise(outputs, outputs),
        nn.BatchNorm2d(outputs),
    )


def _pointwise(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 1, bias=False)


def _depthwise(channels: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, stride, padding=1, groups=channels, bias=False)
