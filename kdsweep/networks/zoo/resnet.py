"""Residual networks for small images."""

from collections.abc import Callable
from itertools import pairwise
from typing import ClassVar

from torch import Tensor, nn

from kdsweep.networks.zoo.named import STEM, Named, in_blocks, numbered


class SmallResNet(Named):
    """Raw logits [B, num_classes]: the ResNets of He et al. 2016 for CIFAR, with projection shortcuts.

    As in the distillation papers (Tian et al. 2020): `width` 1 has stages of 16, 32 and 64 channels and is
    their resnet8 … resnet110; `width` 4 has stages of 64, 128 and 256, their resnet8x4 and resnet32x4.
    """

    repdistiller: ClassVar = {
        **STEM,
        **in_blocks("residual", "conv1 bn1 - conv2 bn2"),
        **in_blocks("shortcut", "downsample.0 downsample.1"),
        "head": "fc",
    }

    def __init__(
        self, num_classes: int, in_channels: int, image_size: tuple[int, int], depth: int = 20, width: int = 1
    ) -> None:
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"depth={depth}; allowed: 8, 14, 20, 26, 32, … (6n + 2)")
        if width < 1:
            raise ValueError(f"width={width}; allowed: 1 or more")
        stem = 16 * min(width, 2)  # the first convolution of resnet8x4 has 32 channels, not 64
        widths = [stem, 16 * width, 32 * width, 64 * width]
        stages = [
            stage(inputs, outputs, blocks=(depth - 2) // 6, stride=1 if number == 0 else 2)
            for number, (inputs, outputs) in enumerate(pairwise(widths))
        ]
        super().__init__(
            stem=nn.Sequential(conv3x3(in_channels, stem, 1), nn.BatchNorm2d(stem), nn.ReLU(inplace=True)),
            **numbered("stage", stages),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            head=nn.Linear(widths[-1], num_classes),
        )
        he_initialize(self)


def conv3x3(inputs: int, outputs: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)


Conv = Callable[[int, int, int], nn.Module]  # of (channels in, channels out, stride)


class BasicBlock(nn.Module):
    """[B, inputs, H, W] → [B, outputs, ⌈H/stride⌉, ⌈W/stride⌉]: two convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int, conv: Conv = conv3x3) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            conv(inputs, outputs, stride),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            conv(outputs, outputs, 1),
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


def stage(inputs: int, outputs: int, blocks: int, stride: int, conv: Conv = conv3x3) -> nn.Sequential:
    """Blocks of one width; the first has the stride."""
    rest = [BasicBlock(outputs, outputs, 1, conv) for _ in range(blocks - 1)]
    return nn.Sequential(BasicBlock(inputs, outputs, stride, conv), *rest)


def he_initialize(network: nn.Module) -> None:
    """Draw convolutions as in He et al. 2015, by fan-out; set biases to zero."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
