"""Sweeps that nobody ran, with plausible figures, for tests of what is shown of sweeps."""

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from kdsweep.results.names import Option
from kdsweep.results.network import Calibration, Cost, Evaluation, NetworkResult, Selection
from kdsweep.results.packed import pack_bits, pack_floats
from kdsweep.results.record import Record
from kdsweep.results.result import JobResult, SweepInfo

DIGITS = tuple("0123456789")
BINS = 15
IMAGES = 36  # of each class
COSTS = {
    "teacher": Cost(151306, 2.66e6, 605224, 0.22),
    "assistant1": Cost(90000, 2.0e6, 360000, 0.18),
    "student": Cost(674250, 1.35e6, 2697000, 0.15),
}
OPTIONS = {"temperature": Option("T", "log"), "alpha": Option("α")}


def sweep(
    swept: Mapping[str, Sequence[Any]] = {"temperature": (1, 4, 16), "alpha": (0.1, 0.5), "seed": (0, 1, 2)},
    roles: Sequence[str] = ("teacher", "scratch"),
    classes: Sequence[str] = DIGITS,
    epochs: int = 30,
    name: str = "digits",
    begin: int = 0,
) -> Record:
    """A grid: every combination of the swept values; jobs of a seed share its teacher and baseline."""
    jobs = [dict(zip(swept, values, strict=True)) for values in itertools.product(*swept.values())]
    results = [job(begin + i, values, roles, classes, epochs, name) for i, values in enumerate(jobs)]
    spec = " ".join(f"{key}={','.join(map(str, values))}" for key, values in swept.items())
    config = {"dataset": {"name": name}, "temperature": 1, "training": {"epochs": epochs}}
    began = "2026-11-22T07:52:52+00:00"
    made = SweepInfo(
        "p" * 32, list(swept), len(jobs), spec, f"kdsweep -m {spec}", began, config, {"kdsweep": "0.1.0"}
    )
    return Record(made, results)


def unvalidated(record: Record) -> Record:
    """The same sweep as if it had held back no image for validation."""
    return replace(record, results=[_unvalidated(result) for result in record.results])


def _unvalidated(result: JobResult) -> JobResult:
    networks = {
        role: replace(
            network,
            val=None,
            history=[
                {name: value for name, value in epoch.items() if not name.startswith("val/")}
                for epoch in network.history
            ],
        )
        for role, network in result.networks.items()
    }
    images = {name: count for name, count in result.dataset.get("images", {}).items() if name != "val"}
    return replace(result, networks=networks, dataset={**result.dataset, "images": images})


def trials(count: int) -> Record:
    """A search: temperature and alpha drawn for each trial."""
    draw = random.Random(0)
    values = [{"temperature": 2 ** draw.uniform(0, 6), "alpha": draw.uniform(0, 1)} for _ in range(count)]
    return Record(
        SweepInfo("p" * 32, ["temperature", "alpha"], count), [job(i, v) for i, v in enumerate(values)]
    )


def job(
    number: int,
    swept: Mapping[str, Any],
    roles: Sequence[str] = ("teacher", "scratch"),
    classes: Sequence[str] = DIGITS,
    epochs: int = 30,
    name: str = "digits",
) -> JobResult:
    seed = swept.get("seed", 0)
    chain = [role for role in ("teacher", "assistant1") if role in roles] + ["student"]
    networks = {
        role: network(role, f"{name} {role} {seed}", classes, epochs, reused=number > 0) for role in roles
    }
    networks["student"] = network("student", f"{name} student {sorted(swept.items())}", classes, epochs)
    recipe = {"dataset": name, "student": "mlp", "method": "kd"}
    recipe |= {"teacher": "mnist_cnn"} if "teacher" in roles else {}
    data = {
        "name": name,
        "fingerprint": f"fingerprint of {name}",
        "images": {"train": 1150, "val": 288, "test": IMAGES * len(classes)},
        "classes": list(classes),
    }
    return JobResult(
        number, dict(swept), seed, seconds=2.0, run_id=f"run{number}", networks=networks, chain=chain,
        recipe=recipe, dataset=data, options=OPTIONS,
    )  # fmt: skip


def network(
    role: str, key: str, classes: Sequence[str] = DIGITS, epochs: int = 30, reused: bool = False
) -> NetworkResult:
    draw = random.Random(key)
    skill = {"teacher": 0.98, "scratch": 0.95}.get(role, 0.965) + draw.gauss(0, 0.004)
    confusion = [_row(true, len(classes), skill, draw) for true in range(len(classes))]
    images = sum(map(sum, confusion))
    accuracy = sum(row[i] for i, row in enumerate(confusion)) / images
    curve = [skill - 0.4 * 0.8**epoch for epoch in range(epochs)]
    return NetworkResult(
        key=key,
        name={"teacher": "mnist_cnn", "assistant1": "small_cnn"}.get(role, "mlp"),
        reused=reused,
        seconds=3.0,
        best_epoch=epochs,
        history=[
            {"val/accuracy": value, "train/accuracy": value + 0.01, "train/loss": 1 - value}
            for value in curve
        ],
        val=Selection(curve[-1], 1 - curve[-1]),
        test=Evaluation(
            accuracy=accuracy,
            right=pack_bits(np.concatenate([np.arange(IMAGES) < row[i] for i, row in enumerate(confusion)])),
            macro_f1=accuracy - 0.001,
            roc_auc=0.999,
            cross_entropy=1 - accuracy,
            calibration=_calibration(images, accuracy, draw),
            calibration_error=0.02 + draw.random() / 100,
            resampled={
                name: pack_floats(value + spread * _normal(draw, 100))
                for name, value, spread in (("macro_f1", accuracy - 0.001, 0.01), ("roc_auc", 0.999, 0.001))
            },
            confusion=confusion,
        ),
        cost=replace(COSTS.get(role, COSTS["student"])),
    )


def _normal(draw: random.Random, count: int) -> np.ndarray:
    return np.array([draw.gauss(0, 1) for _ in range(count)])


def _row(true: int, classes: int, skill: float, draw: random.Random) -> list[int]:
    row = [0] * classes
    for _ in range(IMAGES):
        row[true if draw.random() < skill else draw.randrange(classes)] += 1
    return row


def _calibration(images: int, accuracy: float, draw: random.Random) -> Calibration:
    """Most images in the last bin, none in the first ones."""
    count = [0] * 6 + [images // 60] * 8
    count.append(images - sum(count))
    middles = [(i + 0.5) / BINS for i in range(BINS)]
    return Calibration(
        count,
        [middle if n else None for middle, n in zip(middles, count, strict=True)],
        [
            min(1.0, middle + draw.gauss(0, 0.03)) if n else None
            for middle, n in zip(middles, count, strict=True)
        ],
    )
