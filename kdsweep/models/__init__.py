"""The networks of the recipes. Each gives raw logits [B, num_classes].

A network is any callable `(num_classes, in_channels, image_size, **options) -> nn.Module`, `image_size`
being (height, width); a config names it by import path in `model._target_`.
"""

from kdsweep.models.mlp import MLP
from kdsweep.models.mnist_cnn import MnistCNN

__all__ = ["MLP", "MnistCNN"]
