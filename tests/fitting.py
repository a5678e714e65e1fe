"""Trainings of a small stage, compared bit for bit."""

from pathlib import Path

import torch
from helpers import make_dataset

from kdsweep.stage import Stage
from kdsweep.training.fit import Fitted, fit

DATASET = make_dataset()


CPU = torch.device("cpu")


def train(
    stage: Stage, folder: Path, on_epoch=lambda *event: None, teaching=lambda indices, inputs: None
) -> Fitted:
    return fit(stage, DATASET, teaching, CPU, folder, on_epoch)


def assert_same(first: Fitted, second: Fitted) -> None:
    """Bit for bit, and by the same way."""
    assert first.weights.keys() == second.weights.keys()
    assert all(torch.equal(first.weights[name], second.weights[name]) for name in first.weights)
    assert first.history == second.history
    assert first.best_epoch == second.best_epoch
