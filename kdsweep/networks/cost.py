"""The cost of a network: parameters, FLOPs, latency."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from kdsweep.networks.build import build

RUNS, FEWEST_RUNS = 30, 5  # of each network
SECONDS, LEAST_SECONDS = 2.0, 0.1  # after the first, few runs are enough; the second shows the machine's load

Built = tuple[torch.nn.Module, torch.Tensor]


class Sized(NamedTuple):
    """A network's description, its number of classes, and the shape of its images."""

    model: Mapping[str, Any]
    classes: int
    shape: tuple[int, int, int]


def cost(network: Sized) -> dict[str, float]:
    """The parameters, and the FLOPs of one image.

    FLOPs count convolutions and matrix products; a multiplication and an addition are two.
    """
    module, image = built(network)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(image)
    parameters = sum(parameter.numel() for parameter in module.parameters())
    return {"parameters": parameters, "flops": counter.get_total_flops()}


def built(network: Sized) -> Built:
    """The network in eval mode and an empty image, with memory laid out as in training."""
    with torch.random.fork_rng(devices=[]):
        module = build(*network).eval()
    module = module.to(memory_format=torch.channels_last)
    return module, torch.zeros(1, *network.shape).contiguous(memory_format=torch.channels_last)


def latencies(networks: Sequence[Built]) -> list[float]:
    """The milliseconds that each network takes for its image on one CPU thread.

    The networks take turns, so that changes of the machine affect all of them; the shortest run counts, for
    disturbances only make runs longer.
    """
    least = [float("inf")] * len(networks)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            begin, rounds, seconds = time.perf_counter(), 0, 0.0
            while rounds < FEWEST_RUNS or seconds < (LEAST_SECONDS if rounds >= RUNS else SECONDS):
                for i, (module, image) in enumerate(networks):
                    start = time.perf_counter()
                    module(image)
                    least[i] = min(least[i], time.perf_counter() - start)
                rounds, seconds = rounds + 1, time.perf_counter() - begin
    finally:
        torch.set_num_threads(threads)
    return [1000 * each for each in least]
