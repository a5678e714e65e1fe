"""Wide residual networks (Zagoruyko & Komodakis 2016, arXiv:1605.07146)."""

from itertools import pairwise
from typing import ClassVar

from torch import Tensor, nn

from kdsweep.networks.zoo.named import Named, in_blocks, numbered
from kdsweep.networks.zoo.resnet import he_initialize


class WideResNet(Named):
    """Raw logits [B, num_classes] of WRN-`depth`-`width`; WRN-28-1 has 369,498 parameters for 10 classes.

    Three stages have (depth - 4) / 6 blocks with 16, 32 and 64 times `width` channels; `dropout` is between
    the convolutions of a block.
    """

    repdistiller: ClassVar = {
        "stem": "conv1",
        **in_blocks("activate", "bn1", r"block\1.layer.\2"),
        **in_blocks("residual", "conv1 bn2 - - conv2", r"block\1.layer.\2"),
        r"stage(\d)\.(\d+)\.projection": r"block\1.layer.\2.convShortcut",
        r"norm\.0": "bn1",
        "head": "fc",
    }

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        image_size: tuple[int, int],
        depth: int = 28,
        width: int = 1,
        dropout: float = 0.0,
    ) -> None:
        if depth < 10 or (depth - 4) % 6:
            raise ValueError(f"depth={depth}; allowed: 10, 16, 22, 28, 34, 40, … (6n + 4)")
        if width < 1:
            raise ValueError(f"width={width}; allowed: 1 or more")
        widths = [16, 16 * width, 32 * width, 64 * width]
        stages = [
            _stage(inputs, outputs, (depth - 4) // 6, stride=1 if number == 0 else 2, dropout=dropout)
            for number, (inputs, outputs) in enumerate(pairwise(widths))
        ]
        super().__init__(
            stem=nn.Conv2d(in_channels, 16, 3, padding=1, bias=False),
            **numbered("stage", stages),
            norm=nn.Sequential(nn.BatchNorm2d(widths[-1]), nn.ReLU()),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            head=nn.Linear(widths[-1], num_classes),
        )
        he_initialize(self)


def _stage(inputs: int, outputs: int, blocks: int, stride: int, dropout: float) -> nn.Sequential:
    rest = [WideBlock(outputs, outputs, 1, dropout) for _ in range(blocks - 1)]
    return nn.Sequential(WideBlock(inputs, outputs, stride, dropout), *rest)


class WideBlock(nn.Module):
    """[B, inputs, H, W] → [B, outputs, ⌈H/stride⌉, ⌈W/stride⌉]; normalizes before it convolves."""

    def __init__(self, inputs: int, outputs: int, stride: int, dropout: float) -> None:
        super().__init__()
        # not in place, because methods look at what the first block of a stage has normalized
        self.activate = nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU())
        self.residual = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        )
        self.projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if inputs != outputs else None

    def forward(self, features: Tensor) -> Tensor:
        active = self.activate(features)
        # a projection sees the activated features, an identity the raw ones
        shortcut = features if self.projection is None else self.projection(active)
        out: Tensor = shortcut + self.residual(active)
        return out
