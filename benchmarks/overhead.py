"""Measures the cost of kdsweep's training against a bare loop on the same tensors and stored logits.

    python benchmarks/overhead.py [--images 54000] [--epochs 3] [--rounds 5]

Both train the `mlp` student of `mnist_kd` (T = 4, alpha = 0.5, batch 256, Adam) on images of MNIST's shape,
in turn, in one process. The pixels are random, which does not change the speed. Only kdsweep's epoch includes
normalisation of uint8 images, validation and a checkpoint. The result is the ratio of the medians of all
epochs, with the spread of the rounds' ratios.
"""

import argparse
import tempfile
import time
from itertools import chain
from pathlib import Path
from statistics import median

import torch
from hydra import compose, initialize_config_module
from random_data import random_images, stages
from torch import Tensor
from torch.nn import functional as F

from kdsweep.config.parse import parse
from kdsweep.data.dataset import Dataset
from kdsweep.methods.term import Outputs
from kdsweep.networks.zoo.mlp import MLP
from kdsweep.training.fit import fit
from kdsweep.training.teaching import Teaching

T, ALPHA, BATCH = 4.0, 0.5, 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=54_000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    dataset = random_images(options.images, (1, 28, 28))
    teacher = torch.randn(options.images, 10, generator=torch.Generator().manual_seed(0))
    images = torch.tensor(dataset.train.images).float() / 255
    labels = torch.tensor(dataset.train.labels)
    ours: list[list[float]] = []
    bare: list[list[float]] = []
    for _ in range(options.rounds):
        ours.append(kdsweep_epochs(dataset, teacher, options.epochs))
        bare.append(bare_epochs(images, labels, teacher, options.epochs))
    one, other = (median(chain.from_iterable(rounds)) for rounds in (ours, bare))
    ratios = [median(mine) / median(theirs) for mine, theirs in zip(ours, bare, strict=True)]
    print(f"images {options.images}, {options.rounds} rounds of {options.epochs} epochs, ", end="")
    print(f"threads {torch.get_num_threads()}")
    print(f"bare loop  {other:.3f} s per epoch")
    print(f"kdsweep    {one:.3f} s per epoch")
    print(f"ratio      {one / other:.3f} ({min(ratios):.3f} to {max(ratios):.3f})")


def kdsweep_epochs(dataset: Dataset, teacher: Tensor, epochs: int) -> list[float]:
    """Seconds of each epoch, from the end of the previous one."""
    with initialize_config_module("kdsweep.conf"):
        config = parse(compose("config", ["experiment=mnist_kd", f"training.epochs={epochs}"]))
    stage = stages(config, dataset)["student"]
    ends = []
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        fit(
            stage,
            dataset,
            Teaching(lambda indices, inputs: [Outputs(teacher[indices])]),
            torch.device("cpu"),
            Path(folder),
            lambda *event: ends.append(time.perf_counter()),
        )
    return [end - begin for begin, end in zip([start, *ends], ends, strict=False)]


def bare_epochs(images: Tensor, labels: Tensor, teacher: Tensor, epochs: int) -> list[float]:
    network = MLP(10, 1, (28, 28))
    optimizer = torch.optim.Adam(network.parameters(), 1e-3, fused=True)
    seconds = []
    for _ in range(epochs):
        start = time.perf_counter()
        for batch in torch.randperm(len(images)).split(BATCH):
            outputs = network(images[batch])
            soft = F.kl_div(
                F.log_softmax(outputs / T, dim=1),
                F.log_softmax(teacher[batch] / T, dim=1),
                reduction="batchmean",
                log_target=True,
            )
            loss = ALPHA * F.cross_entropy(outputs, labels[batch]) + (1 - ALPHA) * T**2 * soft
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        seconds.append(time.perf_counter() - start)
    return seconds


if __name__ == "__main__":
    main()
