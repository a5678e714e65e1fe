"""A perceptron: flatten, then dense layers with ReLU."""

from collections.abc import Sequence

from torch import nn

from kdsweep.networks.zoo.named import Named


class MLP(Named):
    """Raw logits [B, num_classes] from images [B, in_channels, *image_size] through `hidden` layer widths."""

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        image_size: tuple[int, int],
        hidden: Sequence[int] = (784, 784),
    ) -> None:
        height, width = image_size
        layers: dict[str, nn.Module] = {}
        features = in_channels * height * width
        for number, size in enumerate(hidden, start=1):
            layers |= {f"hidden{number}": nn.Linear(features, size), f"relu{number}": nn.ReLU()}
            features = size
        head = nn.Linear(features, num_classes)
        super().__init__(flatten=nn.Flatten(), **layers, head=head)
