"""Trainings of a small stage, compared bit for bit."""

from pathlib import Path

import torch
from helpers import make_dataset

from kdsweep.methods.term import Outputs
from kdsweep.stage import Stage
from kdsweep.training.fit import fit
from kdsweep.training.member import Fitted
from kdsweep.training.teaching import Teaching

DATASET = make_dataset()


CPU = torch.device("cpu")


def train(
    stage: Stage,
    folder: Path,
    on_epoch=lambda *event: None,
    teaching=lambda indices, inputs: [],
    teacher=None,
) -> Fitted:
    return fit(stage, DATASET, Teaching(teaching), CPU, folder, on_epoch, teacher=teacher)


def assert_same(first: Fitted, second: Fitted) -> None:
    """Bit for bit, and by the same way."""
    assert first.weights.keys() == second.weights.keys()
    assert all(torch.equal(first.weights[name], second.weights[name]) for name in first.weights)
    assert first.history == second.history
    assert first.best_epoch == second.best_epoch


def teaching(indices: torch.Tensor, inputs: torch.Tensor) -> list[Outputs]:
    """A teacher with logits, an embedding and a map, the same whenever it is asked."""
    return [Outputs(SAID[0][indices], {"embedding": (SAID[1][indices],), "stage2": (SAID[2][indices],)})]


_generator = torch.Generator().manual_seed(0)
SAID = [torch.randn(60, *size, generator=_generator) for size in ((3,), (16,), (5, 8, 8))]

TERMS = {
    "kd": {"_target_": "kdsweep.methods.logits.kd.kd", "temperature": 4.0},
    "dkd": {
        "_target_": "kdsweep.methods.logits.dkd.dkd",
        "temperature": 4.0,
        "alpha": 1.0,
        "beta": 8.0,
        "warmup": 0.5,
    },
    "fitnet": {"_target_": "kdsweep.methods.features.fitnet.FitNet", "taps": "stage2"},
    "crd": {"_target_": "kdsweep.methods.relations.crd.CRD", "taps": "embedding", "negatives": 8},
}
