"""Schedules of the learning rate that torch lacks."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def warmup_cosine(optimizer: Optimizer, epochs: int, warmup: int = 5, start_factor: float = 0.1) -> LambdaLR:
    """Rise from `start_factor` of the rate along a line, in `warmup` epochs; then half a cosine down to 0."""

    def factor(epoch: int) -> float:
        if epoch < warmup:
            return start_factor + (1 - start_factor) * epoch / warmup
        return (1 + math.cos(math.pi * (epoch - warmup) / max(1, epochs - warmup))) / 2

    return LambdaLR(optimizer, factor)
