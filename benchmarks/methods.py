"""Measures what a step of each method costs, as a ratio to a step of plain kd.

    python benchmarks/methods.py [--rounds 15] [--methods at,crd]

A resnet14x2 teaches a resnet8 on made-up 32×32 images, 64 at a time, one thread. A step is what training does
under augmentation: the teacher on the batch, the student, the loss, its gradient, the optimizer. Methods take
turns, and each step is divided by the step of kd in the same round, so that a busy machine slows both.
"""

import argparse
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from statistics import median
from typing import Any

import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from kdsweep.config import Method
from kdsweep.methods import all_taps
from kdsweep.methods.loss import Loss
from kdsweep.methods.term import Batch, Setting
from kdsweep.networks import STUDENT as STUDENT_PART
from kdsweep.networks import TEACHER as TEACHER_PART
from kdsweep.networks.build import build
from kdsweep.networks.taps import Tapped, evaluating
from kdsweep.training.network import place

RESNET = "kdsweep.networks.zoo.resnet.SmallResNet"
TEACHER: dict[str, Any] = {"_target_": RESNET, "depth": 14, "width": 2}
STUDENT: dict[str, Any] = {"_target_": RESNET, "depth": 8}
SHAPE, CLASSES, BATCH, IMAGES = (3, 32, 32), 10, 64, 3000
CHAINS = ("takd", "dgkd", "ban")  # kd along a chain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--methods", help="comma-separated; all if left out")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with initialize_config_module("kdsweep.conf"):
        wanted = options.methods.split(",") if options.methods else names()
        steps = {name: step_of(name) for name in dict.fromkeys(["kd", *wanted])}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(options.rounds + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if number:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
    print(f"{'method':<18}{'step, ms':>9}{'of kd':>8}")
    for name, taken in sorted(seconds.items(), key=lambda each: median(each[1])):
        ratio = median(own / kd for own, kd in zip(taken, seconds["kd"], strict=True))
        print(f"{name:<18}{1000 * median(taken):>9.1f}{ratio:>8.2f}")


def names() -> list[str]:
    """The methods of conf/method/."""
    found = (Path(each.name) for each in files("kdsweep.conf").joinpath("method").iterdir())
    return sorted(file.stem for file in found if file.suffix == ".yaml" and file.stem not in CHAINS)


def step_of(name: str) -> Callable[[], None]:
    """A function that makes one step of training by a method at its defaults."""
    method = Method.model_validate(OmegaConf.to_container(compose("config", [f"method={name}"]).method))
    objective = {key: term.describe(4.0, 0.5) for key, term in method.terms.items()}
    torch.manual_seed(0)
    images = torch.rand(BATCH, *SHAPE).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(IMAGES) % CLASSES
    parts = {STUDENT_PART: STUDENT, TEACHER_PART: TEACHER, "_recursive_": False}
    learner = {**method.network, **parts} if method.network else STUDENT
    student = Tapped(network(learner), all_taps(objective, "student"), images[:2])
    teacher = Tapped(network(TEACHER), all_taps(objective, "teacher"), images[:2])
    teacher.network.eval().requires_grad_(False)
    indices = torch.arange(BATCH)

    def batch(rows: int) -> Batch:
        with torch.no_grad():
            taught = teacher(images[:rows])
        return Batch(student(images[:rows]), [taught], labels[:rows], indices[:rows])

    def example() -> Batch:
        with evaluating(student.network):
            return batch(2)

    setting = Setting(1, labels, CLASSES, BATCH, example, lambda: iter([example()]))
    loss = Loss(objective, setting, seed=0)
    loss.begin(1)
    optimizer = torch.optim.SGD([*student.network.parameters(), *loss.parameters()], lr=0.01, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        loss(batch(BATCH), epoch=1, epochs=1)["loss"].backward()
        optimizer.step()

    return step


def network(model: dict[str, Any]) -> torch.nn.Module:
    return place(build(model, CLASSES, SHAPE), torch.device("cpu"))


if __name__ == "__main__":
    main()
