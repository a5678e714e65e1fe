"""Frozen parts: they learn nothing, stay in eval mode, and are run once; and training in two phases."""

from dataclasses import replace

import pytest
import torch
from helpers import MLP, make_dataset, make_stage
from torch import nn

from kdsweep.config import Augment, FineTuning
from kdsweep.errors import TrainingError
from kdsweep.networks.parts import head_of, layers
from kdsweep.stage import Stage
from kdsweep.training import network as network_module
from kdsweep.training.fit import fit
from kdsweep.training.frozen import cut, freeze, train
from kdsweep.training.member import Fitted
from kdsweep.training.teaching import Teaching

DATASET = make_dataset()
CPU = torch.device("cpu")


class Front(nn.Sequential):
    """Dropout and BatchNorm in front of a head; counts how often its front is run."""

    runs = 0

    def __init__(self, num_classes: int, in_channels: int, image_size: tuple[int, int]) -> None:
        super().__init__(
            Counted(), nn.Dropout(0.5), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2)
        )
        self.add_module("head", nn.Linear(16, num_classes))


class Counted(nn.Flatten):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        Front.runs += 1
        return super().forward(images)


FRONT = {"_target_": f"{__name__}.Front"}


def fitted(stage: Stage, folder, kill_after: int | None = None) -> Fitted:
    def on_epoch(epoch: int, metrics: object, seconds: float) -> None:
        if epoch == kill_after:
            raise KeyboardInterrupt

    return fit(stage, DATASET, Teaching(), CPU, folder, on_epoch)


def initial(stage: Stage) -> dict[str, torch.Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(stage.seed)
        return Front(3, 1, (8, 8)).state_dict()


def moved(stage: Stage, result: Fitted) -> set[str]:
    """The tensors that training changed, running statistics too."""
    return {name for name, tensor in initial(stage).items() if not torch.equal(tensor, result.weights[name])}


@pytest.mark.parametrize("augment", [Augment(), Augment(horizontal_flip=True)])
def test_only_the_head_learns_and_statistics_do_not_move(tmp_path, augment):
    stage = make_stage(FRONT, trainable="head", augment=augment, keep="last")
    assert moved(stage, fitted(stage, tmp_path)) == {"head.weight", "head.bias"}


def test_the_last_layers_learn(tmp_path):
    stage = make_stage(FRONT, trainable=2, keep="last")
    names = moved(stage, fitted(stage, tmp_path))
    assert {name.split(".")[0] for name in names} == {"3", "head"}, "BatchNorm and the head"


def test_a_frozen_front_is_run_once_without_augmentation_and_every_epoch_with_it(tmp_path):
    runs = {}
    for name, augment in (("still", Augment()), ("moving", Augment(horizontal_flip=True))):
        for epochs in (1, 5):
            Front.runs = 0
            fitted(
                make_stage(FRONT, trainable="head", epochs=epochs, augment=augment),
                tmp_path / f"{name}{epochs}",
            )
            runs[name, epochs] = Front.runs
    assert runs["still", 1] == runs["still", 5]
    assert runs["moving", 5] == 5 * runs["moving", 1]


def test_features_give_the_same_weights_as_the_whole_network(tmp_path, monkeypatch):
    stage = make_stage(FRONT, trainable="head")
    with_features = fitted(stage, tmp_path / "a")
    monkeypatch.setattr(network_module, "FEATURES_LIMIT", 10)
    Front.runs = 0
    whole = fitted(stage, tmp_path / "b")
    assert Front.runs > 10, "features that are too large are not kept"
    for name, tensor in whole.weights.items():
        torch.testing.assert_close(with_features.weights[name], tensor, rtol=1e-4, atol=1e-6)


def test_two_phases_follow_each_other_with_their_own_rate_and_parts(tmp_path):
    tuning = FineTuning(epochs=2, learning_rate=1e-4, trainable="all")
    first = make_stage(FRONT, trainable="head", epochs=3, keep="last")
    both = replace(first, training=first.training.model_copy(update={"fine_tuning": tuning}))
    one, two = fitted(first, tmp_path / "one"), fitted(both, tmp_path / "two")
    assert one.history == two.history[:3]
    assert len(two.history) == 5
    assert moved(first, one) == {"head.weight", "head.bias"}
    assert {"2.weight", "3.running_mean"} < moved(both, two)
    assert first.key != both.key


@pytest.mark.parametrize("killed_after", [1, 3, 4])
@pytest.mark.parametrize("patience", [None, 1])
def test_interrupted_phases_go_on_bit_for_bit(tmp_path, killed_after, patience):
    tuning = FineTuning(epochs=3, learning_rate=1e-3, trainable=2)
    stage = make_stage(FRONT, trainable="head", epochs=3, patience=patience, fine_tuning=tuning)
    whole = fitted(stage, tmp_path / "whole")
    killed_after = min(killed_after, len(whole.history) - 1)  # patience may have ended it before
    with pytest.raises(KeyboardInterrupt):
        fitted(stage, tmp_path / "killed", killed_after)
    resumed = fitted(stage, tmp_path / "killed")
    assert resumed.history == whole.history
    assert all(torch.equal(whole.weights[name], tensor) for name, tensor in resumed.weights.items())


def test_patience_ends_a_phase_and_not_the_training(tmp_path):
    tuning = FineTuning(epochs=2, learning_rate=1e-3, trainable="all")
    stage = make_stage(FRONT, trainable="head", epochs=50, learning_rate=1e-9, patience=2, fine_tuning=tuning)
    assert 3 <= len(fitted(stage, tmp_path).history) < 50


def test_a_network_without_epochs_is_evaluated_as_it_is(tmp_path):
    stage = make_stage(FRONT, epochs=0)
    result = fitted(stage, tmp_path)
    assert moved(stage, result) == set()
    assert len(result.history) == result.best_epoch == 1 and "val/accuracy" in result.history[0]


def test_a_network_without_epochs_whose_outputs_are_no_numbers_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(nn.Linear, "reset_parameters", lambda layer: layer.weight.data.fill_(1e38))
    with pytest.raises(TrainingError, match="its weights give outputs that are NaN or infinity"):
        fitted(make_stage(FRONT, epochs=0), tmp_path)


def test_all_leaves_what_a_network_froze_itself_frozen():
    network = Front(3, 1, (8, 8))
    network[2].requires_grad_(False)
    learnable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for trainable in ("head", "all"):
        freeze(network, trainable, learnable)
    assert not network[2].weight.requires_grad and network[3].weight.requires_grad


def test_train_mode_begins_at_the_first_layer_that_learns():
    network = Front(3, 1, (8, 8))
    everything = list(network.parameters())
    freeze(network, 2, everything)
    train(network)
    assert [child.training for child in network] == [False, False, False, True, True, True, True]
    freeze(network, "all", everything)
    train(network)
    assert all(child.training for child in network)


def test_dropout_between_the_frozen_front_and_the_head_works():
    network = Front(3, 1, (8, 8))
    freeze(network, "head", list(network.parameters()))
    train(network)
    assert [child.training for child in network] == [False, False, False, False, True, True, True]
    front, rest = cut(network)
    assert [type(child).__name__ for child in rest] == ["Dropout", "Linear"]
    assert len(front) == 5


def test_a_module_that_occurs_twice_is_run_twice():
    act = nn.ReLU()
    network = nn.Sequential(nn.Linear(4, 4), act, nn.Linear(4, 4), act, nn.Linear(4, 3))
    freeze(network, "head", list(network.parameters()))
    front, rest = cut(network)
    images = torch.randn(5, 4)
    torch.testing.assert_close(rest(front(images)), network(images))
    assert len(front) == 4


def test_what_a_network_froze_itself_is_in_eval_mode():
    network = Front(3, 1, (8, 8))
    for child in (network[2], network[3]):
        child.requires_grad_(False)
    train(network)
    assert not network[3].training and network[6].training


def test_the_second_phase_begins_from_the_best_weights(tmp_path):
    tuning = FineTuning(epochs=1, learning_rate=1e-12, trainable="all")
    stage = make_stage(
        FRONT, trainable="head", epochs=40, learning_rate=0.3, monitor="val/cross_entropy", patience=3,
        fine_tuning=tuning,
    )  # fmt: skip
    history = fitted(stage, tmp_path).history
    best = min(epoch["val/cross_entropy"] for epoch in history[:-1])
    assert history[-2]["val/cross_entropy"] > best
    assert history[-1]["val/cross_entropy"] == pytest.approx(best, rel=0.2)


def test_networks_that_are_no_sequence_are_not_cut():
    class Other(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.last = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(x + self.body(x))

    network = Other()
    freeze(network, "head", list(network.parameters()))
    assert head_of(network) is network.last and layers(network) == [network.body, network.last]
    assert cut(network) is None


def test_a_perceptron_can_be_cut(tmp_path):
    assert fitted(make_stage(MLP, trainable="head"), tmp_path).best_epoch >= 1
