"""Keras' defaults for the layers of any network: the classic experiments were written in Keras."""

from math import sqrt
from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

BATCH_NORM_EPSILON = 1e-3
BATCH_NORM_MOMENTUM = 0.01  # the new batch's weight; Keras gives the past's, 0.99


def as_keras(network: nn.Module, convolutions: Literal["glorot_uniform", "he_normal"]) -> None:
    """Draw the weights of dense layers and convolutions as Keras does, and set its constants of BatchNorm.

    Dense layers get `glorot_uniform` (Glorot & Bengio 2010, eq. 16): U(±√(6 / (fan_in + fan_out))).
    Convolutions get the same or `he_normal` (He et al. 2015): a normal distribution cut at two deviations and
    scaled to variance 2 / fan_in (keras/src/initializers/random_initializers.py, VarianceScaling). Biases
    are zero. Raises ValueError if the network has no such layers.
    """
    found = False
    for module in network.modules():
        if isinstance(module, nn.Linear | _ConvNd):
            found = True
            if isinstance(module, _ConvNd) and convolutions == "he_normal":
                _he_normal(module)
            else:
                nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, _BatchNorm):
            found = True
            module.eps, module.momentum = BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM
    if not found:
        raise ValueError("has no dense layer, convolution or batch normalization")


def _he_normal(module: _ConvNd) -> None:
    fan_in = module.weight[0].numel()
    deviation = sqrt(2 / fan_in) / 0.87962566103423978  # the deviation of a normal distribution cut at ±2
    nn.init.trunc_normal_(module.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
