"""What a network costs to keep and to run."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from kdsweep.networks.build import build

RUNS, FEWEST_RUNS = 30, 5  # of each network
SECONDS, LEAST_SECONDS = 2.0, 0.1  # beyond which a few runs are enough; for the load to be seen

Built = tuple[torch.nn.Module, torch.Tensor]


class Sized(NamedTuple):
    """A network by its description, and what it takes and gives."""

    model: Mapping[str, Any]
    classes: int
    shape: tuple[int, int, int]


def cost(network: Sized) -> dict[str, float]:
    """Parameters, and FLOPs of one image.

    FLOPs are those of convolutions and matrix products, a multiplication and an addition being two.
    """
    module, image = built(network)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(image)
    parameters = sum(parameter.numel() for parameter in module.parameters())
    return {"parameters": parameters, "flops": counter.get_total_flops()}


def built(network: Sized) -> Built:
    """The network in eval mode, and an empty image, laid out as in training."""
    with torch.random.fork_rng(devices=[]):
        module = build(*network).eval()
    module = module.to(memory_format=torch.channels_last)
    return module, torch.zeros(1, *network.shape).contiguous(memory_format=torch.channels_last)


def latencies(networks: Sequence[Built]) -> list[float]:
    """Milliseconds that each network takes for its image, on one CPU thread.

    They run in turns, so that whatever changes meanwhile meets them all, and the least of the runs counts:
    everything that disturbs a run makes it longer.
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
