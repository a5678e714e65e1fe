"""Measures what students in one pass cost, against the same students one after another.

    python benchmarks/together.py [--rounds 3] [--epochs 60] [--threads 1]
    python benchmarks/together.py --commands 6,60 [--rounds 3]

The students of a sweep over temperatures train in turns both ways, in one process, with a teacher's stored
answers, on digits or on random images of CIFAR-10's and MNIST's shape (there for a thirtieth of the epochs).
Everything that a training does counts: building, validation, checkpoints. The result is the ratio of the
medians of the rounds, with the spread of their ratios, and how many students `hardware.together=auto` would
take into one pass.

With --commands whole commands run on digits, with `hardware.together=auto` and `off` in turn: from an empty
folder (cold), which trains teacher and baseline too, and again (warm).
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import torch
from hydra import compose, initialize_config_module
from random_data import random_images, stages

from kdsweep.config.parse import parse
from kdsweep.data.dataset import Dataset, load
from kdsweep.methods.term import Outputs
from kdsweep.stage import Stage
from kdsweep.store.store import Store
from kdsweep.training.fit import fit_together
from kdsweep.training.member import Task
from kdsweep.training.teaching import Teaching
from kdsweep.training.trial import faster_together

CPU = torch.device("cpu")
DIGITS, CIFAR10, MNIST = (1, 8, 8), (3, 32, 32), (1, 28, 28)
CASES = {  # shape, images, batch, students, overrides
    "small_mlp, digits, 6": (DIGITS, 0, 64, 6, ["student=small_mlp"]),
    "small_mlp, digits, 30": (DIGITS, 0, 64, 30, ["student=small_mlp"]),
    "small_mlp, digits, 6 seeds": (DIGITS, 0, 64, 6, ["student=small_mlp"]),
    "small_mlp, digits moved at random, 6": (DIGITS, 0, 64, 6, ["dataset.augment.rotation=10"]),
    "small_cnn, CIFAR-10, 6": (CIFAR10, 1280, 64, 6, ["student=small_cnn"]),
    "cifar10_cnn, CIFAR-10, 6": (CIFAR10, 1280, 64, 6, ["student=cifar10_cnn"]),
    "mlp of 784, MNIST, 6": (MNIST, 2560, 256, 6, ["student=mlp"]),
}
Way = Callable[[], float]  # seconds of one round


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--commands", default="", help="numbers of jobs, such as 6,60")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.commands:
        for jobs in map(int, options.commands.split(",")):
            commands(jobs, options.rounds, options.threads)
        return
    print(f"{options.rounds} rounds of {options.epochs} epochs, {options.threads} threads")
    with tempfile.TemporaryDirectory() as folder:
        for name in CASES:
            case(name, options.epochs, options.rounds, Path(folder))


def case(name: str, epochs: int, rounds: int, folder: Path) -> None:
    """Print how long the students of a case take both ways."""
    shape, images, batch, students, overrides = CASES[name]
    dataset = random_images(images, shape) if images else digits(folder)
    epochs = max(1, epochs // 30) if images else epochs  # there the updates alone take seconds
    recipe = [f"training.epochs={epochs}", f"training.batch_size={batch}", *overrides]
    swept = "seed" if name.endswith("seeds") else "temperature"
    learners = [student([*recipe, f"{swept}={number}"], dataset) for number in range(1, students + 1)]
    logits = torch.randn(len(dataset.train.labels), len(dataset.classes))
    teaching = Teaching(lambda indices, inputs: [Outputs(logits.index_select(0, indices))])

    def tasks() -> list[Task]:
        shutil.rmtree(folder / "unfinished", ignore_errors=True)
        return [Task(stage, teaching, folder / "unfinished" / stage.key) for stage in learners]

    def together() -> float:
        return timed(lambda: fit_together(tasks(), dataset, CPU))

    def alone() -> float:
        return timed(lambda: [fit_together([task], dataset, CPU) for task in tasks()])

    auto = faster_together(tasks(), dataset, CPU)
    compare(name, alone, together, rounds, f"auto: {auto} in a pass")


def compare(name: str, first: Way, second: Way, rounds: int, note: str = "") -> None:
    """Print the medians of both ways, which take turns, and the ratio of the second to the first."""
    pairs = [(first(), second()) for _ in range(rounds)]
    one, other = (median(each) for each in zip(*pairs, strict=True))
    ratios = [two / one for one, two in pairs]
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    print(f"{name:<38}{one:7.2f} s  {other:7.2f} s  {other / one:.2f} ({spread})  {note}", flush=True)


def timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def digits(folder: Path) -> Dataset:
    with initialize_config_module("kdsweep.conf"):
        return load(parse(compose("config")).dataset, Store(folder / "store"))


def student(overrides: Sequence[str], dataset: Dataset) -> Stage:
    """The student of a job, with the default recipe for files."""
    with initialize_config_module("kdsweep.conf"):
        config = parse(compose("config", list(overrides)))
    return stages(config, dataset)["student"]


def commands(jobs: int, rounds: int, threads: int) -> None:
    """Print how long the sweep over so many temperatures takes, with and without passes, cold and warm."""
    swept = "1,2,4,16,32,64" if jobs == 6 else f"range(1,{jobs + 1})"
    with tempfile.TemporaryDirectory() as folder:

        def run(together: str, cold: bool) -> float:
            place = Path(folder) / together
            if cold:
                shutil.rmtree(place, ignore_errors=True)
                place.mkdir()
            program = str(Path(sys.executable).parent / "kdsweep")
            chosen = [f"temperature={swept}", f"hardware.threads={threads}", f"hardware.together={together}"]
            command = [program, "-m", *chosen]
            return timed(lambda: subprocess.run(command, cwd=place, check=True, stdout=subprocess.DEVNULL))

        for cold in (True, False):
            name = f"{jobs} jobs, {'cold' if cold else 'warm'}"
            compare(name, lambda cold=cold: run("off", cold), lambda cold=cold: run("auto", cold), rounds)  # type: ignore[misc]


if __name__ == "__main__":
    main()
