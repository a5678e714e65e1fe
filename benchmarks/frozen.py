"""Measures how much faster a head trains when the frozen backbone's features are computed once.

    python benchmarks/frozen.py [--images 200] [--size 224] [--epochs 3]

It trains the head of timm's tf_efficientnet_lite0 on random images, once as kdsweep does and once with the
backbone run in every epoch, as for augmented images. It prints the ratio of the fastest epochs, which include
validation and a checkpoint, and the time that the features took.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_module

from kdsweep.config.parse import parse
from kdsweep.data.dataset import Dataset
from kdsweep.data.split import Split
from kdsweep.stage import Stage
from kdsweep.stages.chains import ALONE
from kdsweep.training import network
from kdsweep.training.fit import fit
from kdsweep.training.teaching import Teaching


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()

    dataset = random_images(options.images, options.size)
    stage = head_of_lite0(options.epochs)
    before, once = epochs(stage, dataset)
    network.FEATURES_LIMIT = 0
    _, every = epochs(stage, dataset)
    print(f"images {options.images}, size {options.size}, threads {torch.get_num_threads()}")
    print(f"backbone in every epoch  {min(every):.3f} s per epoch")
    print(f"features computed once   {min(once):.3f} s per epoch, after {before:.2f} s")
    print(f"ratio                    {min(every) / min(once):.1f}")


def random_images(count: int, size: int) -> Dataset:
    random = np.random.RandomState(0)

    def split(images: int) -> Split:
        pixels = random.randint(0, 256, (images, 3, size, size)).astype(np.uint8)
        return Split(pixels, np.arange(images), np.arange(images) % 2)

    zero, one = np.zeros(3, np.float32), np.ones(3, np.float32)
    return Dataset(split(count), split(count // 5), split(1), ("a", "b"), zero, one, "random", "random")


def head_of_lite0(epochs: int) -> Stage:
    with initialize_config_module("kdsweep.conf"):
        overrides = ["teacher=timm", "teacher.model.pretrained=false", "training.trainable=head"]
        config = parse(compose("config", [*overrides, f"training.epochs={epochs}"]))
    still = {"augment": config.dataset.augment.model_dump()}
    return Stage(still, config.teacher.model, config.teacher.training, ALONE, config.seed)


def epochs(stage: Stage, dataset: Dataset) -> tuple[float, list[float]]:
    """Seconds before the first epoch, and of each epoch."""
    seconds: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        fit(
            stage,
            dataset,
            Teaching(),
            torch.device("cpu"),
            Path(folder),
            lambda epoch, metrics, taken: seconds.append(taken),
        )
        whole = time.perf_counter() - start
    return whole - sum(seconds), seconds


if __name__ == "__main__":
    main()
