"""VGG networks with batch normalization for small images."""

from typing import ClassVar

from torch import nn

from kdsweep.networks.zoo.named import Named
from kdsweep.networks.zoo.resnet import he_initialize

# the convolutions in each of the five blocks, by depth
BLOCKS = {
    8: (1, 1, 1, 1, 1),
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
WIDTHS = (64, 128, 256, 512, 512)


class VGG(Named):
    """Raw logits [B, num_classes]: networks of Simonyan & Zisserman 2015 with one dense layer.

    As in the distillation papers (Tian et al. 2020), where vgg8 and vgg13 have 3,965,028 and 9,462,180
    parameters for 100 classes: 2×2 pooling after the first three blocks, after the fourth only for images of
    64×64 or more, and an average over the rest after the fifth.
    """

    repdistiller: ClassVar = {
        **{rf"stage{number}\.(\d+)": rf"block{number - 1}.\1" for number in range(1, 6)},
        "head": "classifier",
    }

    def __init__(
        self, num_classes: int, in_channels: int, image_size: tuple[int, int], depth: int = 8
    ) -> None:
        if depth not in BLOCKS:
            raise ValueError(f"depth={depth}; allowed: {', '.join(map(str, BLOCKS))}")
        if min(image_size) < 8:
            raise ValueError("images must be 8×8 pixels or larger: three pooling layers halve them")
        pooled = 4 if min(image_size) >= 64 else 3
        parts: dict[str, nn.Module] = {}
        channels = in_channels
        for number, (width, convolutions) in enumerate(zip(WIDTHS, BLOCKS[depth], strict=True), start=1):
            layers: list[nn.Module] = []
            for _ in range(convolutions):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
                channels = width
            parts[f"stage{number}"] = nn.Sequential(*layers)
            if number <= pooled:
                parts[f"pool{number}"] = nn.MaxPool2d(2)
        head = nn.Linear(channels, num_classes)
        super().__init__(**parts, average=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), head=head)
        he_initialize(self)
        nn.init.normal_(head.weight, std=0.01)
