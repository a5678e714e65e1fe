"""ShuffleNet (Zhang et al. 2018, arXiv:1707.01083) for small images."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from kdsweep.networks.zoo.named import STEM, Named, in_blocks, numbered

GROUPS = 3
FIRST = 24  # channels of the stem
STAGES = ((240, 4), (480, 8), (960, 4))  # (channels, blocks)


class ShuffleNetV1(Named):
    """Raw logits [B, num_classes]; 949,258 parameters for 3 channels and 100 classes.

    As in the distillation papers (Tian et al. 2020): 3 groups; the stem is a 1×1 convolution and does not
    pool; each stage halves the image, so that 32×32 become 4×4; and a ReLU follows the depthwise convolution.
    """

    repdistiller: ClassVar = {
        **STEM,
        **in_blocks("residual", "conv1 bn1 - - conv2 bn2 - conv3 bn3"),
        "head": "linear",
    }

    def __init__(self, num_classes: int, in_channels: int, image_size: tuple[int, int]) -> None:
        stages, channels = [], FIRST
        for width, blocks in STAGES:
            rest = [ShuffleBlock(width, width, 1) for _ in range(blocks - 1)]
            stages.append(nn.Sequential(ShuffleBlock(channels, width, 2), *rest))
            channels = width
        super().__init__(
            stem=nn.Sequential(
                nn.Conv2d(in_channels, FIRST, 1, bias=False), nn.BatchNorm2d(FIRST), nn.ReLU(inplace=True)
            ),
            **numbered("stage", stages),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            head=nn.Linear(channels, num_classes),
        )


class Shuffle(nn.Module):
    """Channels in another order: one of each of `groups`, then the next of each."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, features: Tensor) -> Tensor:
        shuffled: Tensor = features.unflatten(1, (self.groups, -1)).transpose(1, 2).flatten(1, 2)
        return shuffled


class ShuffleBlock(nn.Module):
    """[B, inputs, H, W] → [B, outputs, ⌈H/stride⌉, ⌈W/stride⌉].

    With stride 2 the shortcut is averaged and set beside what the convolutions give; else they are added.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        added = outputs - inputs if stride == 2 else outputs
        width, groups = added // 4, 1 if inputs == FIRST else GROUPS
        self.residual = nn.Sequential(
            nn.Conv2d(inputs, width, 1, groups=groups, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            Shuffle(groups),
            nn.Conv2d(width, width, 3, stride, padding=1, groups=width, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, added, 1, groups=GROUPS, bias=False),
            nn.BatchNorm2d(added),
        )
        self.average = nn.AvgPool2d(3, stride=2, padding=1) if stride == 2 else None
        self.activation = nn.ReLU()  # not in place, because methods look at its input

    def forward(self, features: Tensor) -> Tensor:
        made = self.residual(features)
        both = made + features if self.average is None else torch.cat((made, self.average(features)), 1)
        out: Tensor = self.activation(both)
        return out
