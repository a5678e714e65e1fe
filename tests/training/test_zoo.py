"""Each method of the zoo trains a small network by another."""

from pathlib import Path

import pytest
import torch
from fitting import CPU, DATASET, assert_same, train
from fitting import teaching as same_teaching
from helpers import make_stage
from torch import nn
from zoo_examples import METHODS, objective

from kdsweep.methods import all_taps
from kdsweep.methods.term import Outputs
from kdsweep.networks import TEACHER
from kdsweep.networks.build import build
from kdsweep.networks.taps import Tapped
from kdsweep.stage import Stage
from kdsweep.training.member import Fitted
from kdsweep.training.network import Inputs, place

RESNET = {"_target_": "kdsweep.networks.zoo.resnet.SmallResNet", "depth": 8}
LARGE = {**RESNET, "width": 2}


class Killed(Exception):
    """What ends a training, as a kill does."""


def resumed(stage: Stage, teacher: nn.Module, folder: Path) -> Fitted:
    """A training that goes on after a kill to the same bits as one that is not killed."""
    images = Inputs(DATASET.train, DATASET, CPU).first()
    tapped = Tapped(teacher, all_taps(stage.objective, "teacher"), images)

    def teaching(indices: torch.Tensor, images: torch.Tensor) -> list[Outputs]:
        with torch.no_grad():
            return [tapped(images)]

    def kill(epoch: int, *event: object) -> None:
        if epoch == 2:
            raise Killed

    head = (lambda: teacher) if TEACHER in stage.model else None
    whole = train(stage, folder / "whole", teaching=teaching, teacher=head)
    with pytest.raises(Killed):
        train(stage, folder / "killed", kill, teaching, head)
    assert_same(whole, train(stage, folder / "killed", teaching=teaching, teacher=head))
    return whole


@pytest.fixture
def teacher(monkeypatch) -> nn.Module:
    monkeypatch.setattr("kdsweep.training.checkpoint.SECONDS_BETWEEN_SAVES", 0)
    torch.manual_seed(1)
    return place(build(LARGE, 3, DATASET.shape), CPU).eval().requires_grad_(False)


@pytest.mark.parametrize("name", METHODS)
def test_resumed_it_has_the_same_bits_and_the_teacher_is_as_before(tmp_path, teacher, name):
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    stage = make_stage(RESNET, objective(name), (make_stage(LARGE),), epochs=3, batch_size=20)
    whole = resumed(stage, teacher, tmp_path)
    after = teacher.state_dict()
    assert not teacher.training and all(torch.equal(before[key], after[key]) for key in before)
    alone = build(RESNET, 3, DATASET.shape).state_dict()
    assert {key: value.shape for key, value in whole.weights.items()} == {
        key: value.shape for key, value in alone.items()
    }


def test_a_student_with_its_teachers_head_resumes_with_the_same_bits(tmp_path, teacher):
    joined = {
        "_target_": "kdsweep.networks.reuse.TeachersHead",
        "_recursive_": False,
        "student": RESNET,
        "teacher": LARGE,
    }
    stage = make_stage(joined, objective("simkd"), (make_stage(LARGE),), epochs=3, batch_size=20)
    whole = resumed(stage, teacher, tmp_path)
    assert torch.equal(whole.weights["head.weight"], teacher.head.weight)
    losses = [metrics["train/loss"] for metrics in whole.history]
    assert losses[-1] < losses[0]


def test_a_temperature_that_learns_is_reported_for_each_epoch(tmp_path):
    """θ = 1 is T = 1 + 20 · σ(1); an epoch's figure is the mean over its batches."""
    stage = make_stage(
        RESNET, objective("ctkd", alpha=0.1), (make_stage(LARGE),), epochs=3, learning_rate=0.01
    )
    history = train(stage, tmp_path, teaching=same_teaching).history
    temperatures = [metrics["train/ctkd_temperature"] for metrics in history]
    assert temperatures[0] == pytest.approx(15.62, abs=0.5)
    assert all(1 < each < 21 for each in temperatures) and len(set(temperatures)) == 3
    for metrics in history:
        sums = 0.1 * metrics["train/loss_labels"] + 0.9 * metrics["train/loss_ctkd"]
        assert metrics["train/loss"] == pytest.approx(sums, rel=1e-5)
