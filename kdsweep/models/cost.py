"""What a network costs to keep and to run."""

import time
from collections.abc import Mapping
from statistics import median
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from kdsweep.models.build import build

RUNS = 30


def cost(model: Mapping[str, Any], num_classes: int, shape: tuple[int, int, int]) -> dict[str, float]:
    """Parameters, and FLOPs and latency in milliseconds of one image.

    FLOPs are those of convolutions and matrix products, a multiplication and an addition being two. Latency
    is the median on one CPU thread.
    """
    with torch.random.fork_rng(devices=[]):
        network = build(model, num_classes, shape).eval()
    image = torch.zeros(1, *shape)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            with FlopCounterMode(display=False) as counter:
                network(image)
            seconds = [_seconds(network, image) for _ in range(RUNS)]
    finally:
        torch.set_num_threads(threads)
    return {
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "flops": counter.get_total_flops(),
        "latency_ms": 1000 * median(seconds),
    }


def _seconds(network: torch.nn.Module, image: torch.Tensor) -> float:
    start = time.perf_counter()
    network(image)
    return time.perf_counter() - start
