"""The moving average of the weights: what is evaluated, kept, stored, and goes on after a kill."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fitting import CPU, DATASET, assert_same, train
from fitting import teaching as same_teaching
from helpers import CNN, TINY, Command, kd_objective, make_stage
from safetensors.torch import load_file
from torch import nn

from kdsweep.config import Augment, FineTuning
from kdsweep.networks.build import build
from kdsweep.stage import Stage
from kdsweep.training.average import MovingAverage
from kdsweep.training.member import Fitted
from kdsweep.training.network import Inputs, logits, place, selection_metrics

DECAY = 0.9
RESNET = {"_target_": "kdsweep.networks.zoo.resnet.SmallResNet", "depth": 8}
SECOND = FineTuning(epochs=3, learning_rate=0.01, trainable=2)
VAL = Inputs(DATASET.val, DATASET, CPU)


class Normalized(nn.Sequential):
    """A front with batch normalization and a head, which may be cut in between."""

    def __init__(self, num_classes: int, in_channels: int, image_size: tuple[int, int]) -> None:
        super().__init__(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU())
        self.add_module("head", nn.Linear(16, num_classes))


NORMALIZED = {"_target_": f"{__name__}.Normalized"}
MOVING = Augment(horizontal_flip=True, crop_padding=1)
STAGES = {
    "best": make_stage(CNN, ema=DECAY),
    "last": make_stage(RESNET, ema=DECAY, keep="last", epochs=3),
    "two phases, best": make_stage(NORMALIZED, ema=DECAY, fine_tuning=SECOND, epochs=3),
    "two phases, last": make_stage(NORMALIZED, ema=DECAY, fine_tuning=SECOND, epochs=3, keep="last"),
    "a frozen front": make_stage(NORMALIZED, ema=DECAY, trainable="head"),
    "a frozen front, augmented": make_stage(NORMALIZED, ema=DECAY, trainable="head", augment=MOVING),
    "with a teacher, clipped, balanced": make_stage(
        CNN, kd_objective(), (make_stage(),), ema=DECAY, clip_norm=0.5, sampling="balanced"
    ),
}


def validated(stage: Stage, fitted: Fitted) -> dict[str, float]:
    """The figures of the stored weights on the validation split."""
    network = build(stage.model, 3, DATASET.shape)
    network.load_state_dict(fitted.weights)
    return selection_metrics(logits(place(network, CPU), VAL), VAL.labels)


def test_it_is_the_formula_step_by_step():
    """The first step's weights, then a tenth of the way to each later one's; statistics too, counters not."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    average = MovingAverage(network, DECAY)
    expected: dict[str, torch.Tensor] = {}
    for step in range(6):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter))
        network(torch.randn(5, 3))
        average.follow()
        for name, value in network.state_dict().items():
            counter = not value.is_floating_point()
            moved = value if step == 0 or counter else DECAY * expected[name] + (1 - DECAY) * value
            expected[name] = moved.clone()
    state = average.module.state_dict()
    assert state["1.num_batches_tracked"] == 6
    for name, value in expected.items():
        torch.testing.assert_close(state[name], value)
    assert "followed" not in str(average.state_dict().keys())


@pytest.mark.parametrize("name", STAGES)
def test_what_is_stored_is_what_was_validated(tmp_path, name):
    stage = STAGES[name]
    fitted = train(stage, tmp_path, teaching=same_teaching)
    figures = fitted.history[fitted.best_epoch - 1]
    stored = validated(stage, fitted)
    assert stored["val/accuracy"] == figures["val/accuracy"]
    assert stored["val/cross_entropy"] == pytest.approx(figures["val/cross_entropy"], rel=1e-5)


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize("killed_after", [1, 3])
def test_a_killed_training_goes_on_bit_for_bit(tmp_path, monkeypatch, name, killed_after):
    """After 3 epochs, where there are two phases, between them."""
    monkeypatch.setattr("kdsweep.training.checkpoint.SECONDS_BETWEEN_SAVES", 0)
    stage = STAGES[name]
    if killed_after == stage.training.total_epochs:
        stage = replace(stage, training=stage.training.model_copy(update={"epochs": killed_after + 1}))
    whole = train(stage, tmp_path / "whole", teaching=same_teaching)

    def kill(epoch: int, *event: object) -> None:
        if epoch == killed_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(stage, tmp_path / "killed", kill, same_teaching)
    assert_same(whole, train(stage, tmp_path / "killed", teaching=same_teaching))


def weights_after_each_step(monkeypatch) -> list[dict[str, torch.Tensor]]:
    """The network's weights after each step of the trainings that follow."""
    seen: list[dict[str, torch.Tensor]] = []
    follow = MovingAverage.follow

    def watch(average: MovingAverage) -> None:
        follow(average)
        seen.append({name: value.clone() for name, value in average._followed[0].state_dict().items()})

    monkeypatch.setattr(MovingAverage, "follow", watch)
    return seen


def averaged(steps: list[dict[str, torch.Tensor]], name: str) -> torch.Tensor:
    first, *rest = [step[name].double() for step in steps]
    for value in rest:
        first = DECAY * first + (1 - DECAY) * value
    return first.float()


@pytest.mark.parametrize("name", ["last", "a frozen front", "with a teacher, clipped, balanced"])
def test_the_training_itself_is_as_without_and_its_steps_are_averaged(tmp_path, monkeypatch, name):
    stage = replace(STAGES[name], training=STAGES[name].training.model_copy(update={"keep": "last"}))
    steps = weights_after_each_step(monkeypatch)
    fitted = train(stage, tmp_path / "averaged", teaching=same_teaching)
    plain = replace(stage, training=stage.training.model_copy(update={"ema": None}))
    without = train(plain, tmp_path / "plain", teaching=same_teaching)
    assert all(torch.equal(steps[-1][key], value) for key, value in without.weights.items())
    losses = [[epoch["train/loss"] for epoch in each.history] for each in (fitted, without)]
    assert losses[0] == losses[1]
    for key, value in fitted.weights.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, averaged(steps, key), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("keep", ["best", "last"])
def test_a_second_phase_begins_from_what_the_first_gives_and_averages_anew(tmp_path, monkeypatch, keep):
    stage = make_stage(NORMALIZED, ema=DECAY, fine_tuning=SECOND, epochs=3, keep=keep)
    first = train(make_stage(NORMALIZED, ema=DECAY, epochs=3, keep=keep), tmp_path / "first")
    steps = weights_after_each_step(monkeypatch)
    fitted = train(stage, tmp_path / "both")
    frozen = "1.weight"  # in the second phase
    assert torch.equal(steps[-1][frozen], first.weights[frozen])
    if keep == "last":
        later = steps[3 * 4 :]
        torch.testing.assert_close(
            fitted.weights["head.weight"], averaged(later, "head.weight"), rtol=1e-4, atol=1e-5
        )
        assert torch.equal(fitted.weights[frozen], first.weights[frozen])


def test_a_student_with_its_teachers_head_is_averaged_without_it(tmp_path):
    large = {**RESNET, "width": 2}
    joined = {
        "_target_": "kdsweep.networks.reuse.TeachersHead",
        "_recursive_": False,
        "student": RESNET,
        "teacher": large,
    }
    torch.manual_seed(1)
    teacher = build(large, 3, DATASET.shape).eval()
    stage = make_stage(joined, parents=(make_stage(large),), epochs=2, ema=DECAY, keep="last")
    fitted = train(stage, tmp_path, teacher=lambda: teacher)
    assert torch.equal(fitted.weights["head.weight"], teacher.state_dict()["head.weight"])
    assert validated(stage, fitted)["val/accuracy"] == fitted.history[-1]["val/accuracy"]


@pytest.mark.long
def test_the_command_stores_the_average(kdsweep: Command, tmp_path: Path):
    for averaged in ("null", "0.9"):
        kdsweep("method=scratch", f"training.ema={averaged}", *TINY)
    one, other = (load_file(file) for file in tmp_path.glob("kdsweep-store/*/weights.safetensors"))
    assert one.keys() == other.keys() and any(not torch.equal(one[name], other[name]) for name in one)
