"""A perceptron: flatten, then dense layers with ReLU."""

from collections.abc import Sequence

from torch import nn


class MLP(nn.Sequential):
    """Raw logits [B, num_classes] from images [B, in_channels, *image_size] through `hidden` layer widths."""

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        image_size: tuple[int, int],
        hidden: Sequence[int] = (784, 784),
    ) -> None:
        height, width = image_size
        layers: list[nn.Module] = [nn.Flatten()]
        features = in_channels * height * width
        for size in hidden:
            layers += [nn.Linear(features, size), nn.ReLU()]
            features = size
        super().__init__(*layers, nn.Linear(features, num_classes))
