"""Measures what a sweep with augmentation gains from a teacher that answers once.

    python benchmarks/answers.py [--images 960] [--epochs 3] [--rounds 3] [--width 92]

Six temperatures train the same student, taught by one teacher, on random images of CIFAR's shape that are
cropped and flipped at random, on one thread and one student after another. The teacher's width is chosen such
that its forward pass takes about twice as long as all else in a step of its student; what it really takes is
measured and printed. Each round runs the sweep with the teacher asked in every step (`answers_gb=0`), with
its answers kept, and again with another alpha, which finds all answers; all in a store that has the teacher.
Only the students' training counts. The result is the ratio of the medians, with the spread of the rounds, and
what it would be if recording and the store took no time.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch
from hydra import compose, initialize_config_module
from random_data import random_images, stages
from torch import Tensor

from kdsweep.config import Hardware
from kdsweep.config.parse import parse
from kdsweep.data.dataset import Dataset
from kdsweep.methods.term import Outputs
from kdsweep.stage import Stage
from kdsweep.stages.maker import Maker
from kdsweep.stages.trajectory import Live
from kdsweep.store.store import Store

TEMPERATURES, BATCH, SHAPE = (1, 2, 4, 8, 16, 32), 64, (3, 32, 32)
STUDENT = 24  # channels
HARDWARE = Hardware(device="cpu", threads=1, together="off")  # one student after another


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=960)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--width", type=int, default=92, help="channels of the teacher")
    options = parser.parse_args()
    torch.set_num_threads(1)

    dataset = random_images(options.images, SHAPE)
    sweep, other = (jobs(options.width, options.epochs, dataset, alpha) for alpha in (0.5, 0.2))
    seconds: dict[str, list[float]] = {"asked": [], "kept": [], "again": []}
    asked: dict[str, list[float]] = {"asked": [], "kept": [], "again": []}  # seconds of the teacher, by batch
    with tempfile.TemporaryDirectory() as folder:
        trained, root = Path(folder) / "trained", Path(folder) / "store"
        train(trained, dataset, [{"teacher": sweep[0]["teacher"]}])
        for _ in range(options.rounds):
            for way, gb, links in (("asked", 0.0, sweep), ("kept", 2.0, sweep), ("again", 2.0, other)):
                if way != "again":
                    shutil.rmtree(root, ignore_errors=True)
                    shutil.copytree(trained, root)
                with listening(asked[way]):
                    start = time.perf_counter()
                    train(root, dataset, links, gb)
                    seconds[way].append(time.perf_counter() - start)
    students = len(TEMPERATURES)
    ratio = sum(asked["asked"]) / (sum(seconds["asked"]) - sum(asked["asked"]))
    print(f"images {options.images}, epochs {options.epochs}, rounds {options.rounds}, one thread")
    print(f"teacher's forward pass      {ratio:.2f} of all else in a step")
    for way, what in (("asked", "asked in every step"), ("kept", "answers kept"), ("again", "another alpha")):
        times = len(asked[way]) // options.rounds
        print(f"{what:<28}{shown(seconds[way])} for {students} temperatures, teacher asked {times} times")
    print(f"ratio                       {median(seconds['asked']) / median(seconds['kept']):.2f}")
    ratios = [one / two for one, two in zip(seconds["asked"], seconds["kept"], strict=True)]
    print(f"ratio of each round         {', '.join(f'{each:.2f}' for each in ratios)}")
    print(f"if keeping took no time     {students * (1 + ratio) / (students + ratio):.2f}")


def network(width: int) -> dict[str, Any]:
    """Four convolutions with so many channels, and twice as many."""
    block = ["batch_norm", "relu"]
    convolutions = [{"conv": width}, {"conv": width, "stride": 2}, {"conv": 2 * width, "stride": 2}]
    layers = [layer for each in convolutions for layer in (each, *block)]
    return {"_target_": "kdsweep.networks.zoo.layers.Layers", "layers": [*layers, "global_avgpool"]}


def jobs(width: int, epochs: int, dataset: Dataset, alpha: float) -> list[Mapping[str, Stage]]:
    """The stages of each job of the sweep."""
    augmented = ("dataset.augment.crop_padding=4", "dataset.augment.horizontal_flip=true")
    found = []
    for temperature in TEMPERATURES:
        overrides = [f"temperature={temperature}", f"alpha={alpha}", "baseline=false", *augmented]
        recipe = [f"training.batch_size={BATCH}", f"training.epochs={epochs}", "teacher.training.epochs=1"]
        with initialize_config_module("kdsweep.conf"):
            config = compose("config", [*overrides, *recipe])
        config.teacher.model, config.student.model = network(width), network(STUDENT)
        found.append(stages(parse(config), dataset))
    return found


def train(root: Path, dataset: Dataset, sweep: Sequence[Mapping[str, Stage]], gb: float = 0.0) -> None:
    """Train what a sweep needs, job by job."""
    for links in sweep:
        store = Store(root, answers_gb=gb).made()
        Maker(store, dataset, HARDWARE, {}, lambda event: None).train(links)


@contextmanager
def listening(seconds: list[float]) -> Iterator[None]:
    """Note how long teachers' networks take for each batch that they are asked about."""
    ask = Live.__call__

    def timed(self: Live, indices: Tensor, inputs: Tensor) -> Outputs:
        start = time.perf_counter()
        outputs = ask(self, indices, inputs)
        if len(indices) == BATCH:  # else it is asked for its shapes
            seconds.append(time.perf_counter() - start)
        return outputs

    Live.__call__ = timed  # type: ignore[method-assign]
    try:
        yield
    finally:
        Live.__call__ = ask  # type: ignore[method-assign]


def shown(seconds: Sequence[float]) -> str:
    return f"{median(seconds):.1f} s ({min(seconds):.1f} to {max(seconds):.1f})"


if __name__ == "__main__":
    main()
