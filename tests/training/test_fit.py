"""The training loop: reproducible, resumable, selecting on validation alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fitting import CPU, DATASET, assert_same, train
from helpers import CNN, MLP, kd_objective, make_stage, optimizer, schedule, setting_of
from safetensors.torch import load_file, save_file

from kdsweep.config import Augment, Hardware
from kdsweep.errors import TrainingError
from kdsweep.methods.loss import Loss
from kdsweep.methods.term import Batch, Outputs
from kdsweep.results.network import Selection
from kdsweep.stage import Panel, Stage
from kdsweep.stages.answers import Answers
from kdsweep.stages.maker import Maker
from kdsweep.store.store import Store
from kdsweep.training.fit import fit
from kdsweep.training.member import Fitted
from kdsweep.training.network import Inputs, logits, selection_metrics
from kdsweep.training.teaching import Teaching

KD = kd_objective()
MOVING = Augment(crop_padding=1, horizontal_flip=True)


WARM = {"_target_": "kdsweep.training.schedules.warmup_cosine", "epochs": "epochs", "warmup": 2}
VARIANTS = {
    "adam, dropout": make_stage(CNN),
    "sgd, multistep, augmented": make_stage(
        CNN,
        optimizer=optimizer("SGD", momentum=0.9, nesterov=True),
        schedule=schedule("MultiStepLR", milestones=[2]),
        augment=MOVING,
    ),
    "adamw, cosine": make_stage(
        MLP,
        optimizer=optimizer("AdamW", weight_decay=0.1),
        schedule=schedule("CosineAnnealingLR", T_max="epochs"),
    ),
    "exponential, last": make_stage(MLP, schedule=schedule("ExponentialLR", gamma=0.5), keep="last"),
    "numbers in its memory": make_stage(MLP, optimizer={"_target_": "timm.optim.Lamb"}),
    "warm-up": make_stage(MLP, optimizer=optimizer("NAdam"), schedule=WARM),
    "patience": make_stage(MLP, epochs=30, patience=3, monitor="val/cross_entropy"),
    "training loss": make_stage(MLP, epochs=30, patience=2, monitor="train/loss", learning_rate=0.5),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_same_stage_same_weights_whatever_ran_before(tmp_path, name):
    first = train(VARIANTS[name], tmp_path / "a")
    torch.manual_seed(12345)
    torch.rand(7)
    assert_same(first, train(VARIANTS[name], tmp_path / "b"))


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("killed_after", [1, 3])
def test_interrupted_training_goes_on_bit_for_bit(tmp_path, monkeypatch, name, killed_after):
    monkeypatch.setattr("kdsweep.training.checkpoint.SECONDS_BETWEEN_SAVES", 0)
    stage = VARIANTS[name]
    whole = train(stage, tmp_path / "whole")
    seen = []

    def kill(epoch: int, metrics: object, seconds: float) -> None:
        seen.append(epoch)
        if epoch == killed_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(stage, tmp_path / "resumed", kill)
    killed_after = 10**9
    assert_same(whole, train(stage, tmp_path / "resumed", kill))
    assert seen == list(range(1, len(whole.history) + 1)), "no epoch was trained twice"


@pytest.mark.parametrize("name", VARIANTS)
def test_epochs_since_the_last_checkpoint_come_out_as_they_were(tmp_path, monkeypatch, name):
    monkeypatch.setattr("kdsweep.training.checkpoint.SHARE", 1e-9)  # after the first epoch, no more in time
    stage = VARIANTS[name]
    seen = []

    def kill(epoch: int, metrics: object, seconds: float) -> None:
        seen.append(epoch)
        if seen == [1, 2, 3]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(stage, tmp_path / "resumed", kill)
    whole = train(stage, tmp_path / "whole")
    assert_same(whole, train(stage, tmp_path / "resumed", kill))
    assert seen == [1, 2, 3, *range(2, len(whole.history) + 1)]


def test_training_leaves_the_global_generator_as_it_was(tmp_path):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    train(make_stage(CNN), tmp_path)
    assert torch.equal(torch.rand(3), expected)


def test_another_seed_gives_other_weights(tmp_path):
    one, other = (train(make_stage(seed=seed), tmp_path / str(seed)) for seed in (0, 1))
    assert not torch.equal(one.weights["hidden1.weight"], other.weights["hidden1.weight"])


def test_best_weights_are_those_of_the_best_epoch(tmp_path):
    stage = make_stage(CNN, learning_rate=0.02, epochs=8)
    fitted = train(stage, tmp_path)
    scores = [(epoch["val/accuracy"], -epoch["val/cross_entropy"]) for epoch in fitted.history]
    assert fitted.best_epoch == 1 + max(range(len(scores)), key=scores.__getitem__)
    shortened = train(
        make_stage(CNN, learning_rate=0.02, epochs=fitted.best_epoch, keep="last"), tmp_path / "s"
    )
    assert all(torch.equal(fitted.weights[name], shortened.weights[name]) for name in fitted.weights)


def test_last_weights_are_those_of_the_last_epoch(tmp_path):
    fitted = train(make_stage(keep="last", learning_rate=0.02), tmp_path)
    assert fitted.best_epoch == len(fitted.history) == 4


def test_early_stopping_waits_for_patience(tmp_path):
    wrong = replace(DATASET, val=replace(DATASET.val, labels=(DATASET.val.labels + 1) % 3))
    stage = make_stage(epochs=100, patience=3, monitor="val/cross_entropy")
    fitted = fit(stage, wrong, Teaching(), CPU, tmp_path, lambda *event: None)
    assert len(fitted.history) == fitted.best_epoch + 3 < 100


def test_the_training_loss_may_choose(tmp_path):
    """As Keras' `monitor="loss"`: the best and the last epoch are the same whatever validation says."""
    stage = VARIANTS["training loss"]
    fitted = train(stage, tmp_path / "a")
    losses = [epoch["train/loss"] for epoch in fitted.history]
    assert fitted.best_epoch == 1 + losses.index(min(losses))
    assert len(losses) == fitted.best_epoch + 2 < 30, "rates this high make it jump"
    wrong = replace(DATASET, val=replace(DATASET.val, labels=(DATASET.val.labels + 1) % 3))
    other = fit(stage, wrong, Teaching(), CPU, tmp_path / "b", lambda *event: None)
    assert all(torch.equal(fitted.weights[name], other.weights[name]) for name in fitted.weights)


def test_weights_that_are_taken_as_they_are_need_no_training_loss(tmp_path):
    given = train(make_stage(MLP), tmp_path / "a")
    save_file(given.weights, tmp_path / "weights.safetensors")
    stage = make_stage(MLP, epochs=0, monitor="train/loss")
    taken = fit(
        stage,
        DATASET,
        Teaching(),
        CPU,
        tmp_path / "b",
        lambda *event: None,
        tmp_path / "weights.safetensors",
    )
    assert all(torch.equal(given.weights[name], taken.weights[name]) for name in given.weights)


def test_test_images_play_no_part(tmp_path):
    stage, split = make_stage(), DATASET.test
    other = replace(DATASET, test=replace(split, source=255 - split.source, labels=split.labels * 0))
    first = train(stage, tmp_path / "a")
    assert_same(first, fit(stage, other, Teaching(), CPU, tmp_path / "b", lambda *event: None))


def test_augmentation_never_touches_the_data(tmp_path):
    before = [DATASET.splits[name].images.copy() for name in ("train", "val", "test")]
    train(make_stage(augment=MOVING), tmp_path)
    for name, images in zip(("train", "val", "test"), before, strict=True):
        assert np.array_equal(DATASET.splits[name].images, images)


class Seeing(torch.nn.Sequential):
    """Notes what it is given to validate with."""

    seen: list[torch.Tensor] = []  # noqa: RUF012

    def __init__(self, num_classes: int, in_channels: int, image_size: tuple[int, int]) -> None:
        super().__init__(torch.nn.Flatten(), torch.nn.Linear(64, num_classes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if not self.training:
            self.seen.append(images.clone())
        return super().forward(images)


def test_validation_and_test_images_are_never_augmented(tmp_path):
    moving = Augment(
        crop_padding=1, horizontal_flip=True, rotation=90, shift=0.2, zoom=(0.5, 1), brightness=(0.2, 1)
    )
    shop, _ = maker(tmp_path)
    stage = make_stage({"_target_": f"{__name__}.Seeing"}, augment=moving)
    Seeing.seen.clear()
    shop.obtain({"student": stage}, {})
    expected = [DATASET.val] * 4 + [DATASET.test]  # four epochs, then the stored logits
    images = [images for images in Seeing.seen if images.any()]  # an empty one counts FLOPs
    seen = sorted(images, key=lambda images: images.sum())
    assert len(seen) == len(expected)
    for images, split in zip(seen, sorted(expected, key=lambda split: split.images.sum()), strict=True):
        torch.testing.assert_close(images, torch.tensor(split.images).float() / 255)


def test_a_loss_that_is_no_number_ends_it(tmp_path):
    with pytest.raises(TrainingError, match=r"no longer finite in epoch 1; lower the learning rate, 1e\+30"):
        train(make_stage(learning_rate=1e30), tmp_path)


def test_a_network_that_breaks_in_its_last_step_is_not_kept(tmp_path):
    """The loss of one batch is measured before the step; the validation shows what came of it."""
    with pytest.raises(TrainingError):
        train(make_stage(learning_rate=1e30, epochs=1, batch_size=60), tmp_path)


class Tied(torch.nn.Sequential):
    def __init__(self, num_classes: int, in_channels: int, image_size: tuple[int, int]) -> None:
        first, second = torch.nn.Linear(64, 64), torch.nn.Linear(64, 64)
        second.weight = first.weight
        super().__init__(torch.nn.Flatten(), first, torch.nn.ReLU(), second, torch.nn.Linear(64, num_classes))


def test_tied_weights_are_trained_stored_and_resumed(tmp_path):
    stage = make_stage({"_target_": f"{__name__}.Tied"})
    whole = train(stage, tmp_path / "whole")

    def kill(*event: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(stage, tmp_path / "killed", kill)
    assert_same(whole, train(stage, tmp_path / "killed"))


def test_a_last_batch_of_one_is_left_out(tmp_path):
    stage = make_stage(
        {"_target_": f"{__name__}.WithBatchNorm"}, batch_size=len(DATASET.train.labels) - 1, epochs=1
    )
    train(stage, tmp_path)


class WithBatchNorm(torch.nn.Sequential):
    """Notes in which mode it is called; BatchNorm refuses one image in train mode."""

    modes: list[bool] = []  # noqa: RUF012

    def __init__(self, num_classes: int, in_channels: int, image_size: tuple[int, int]) -> None:
        super().__init__(
            torch.nn.Flatten(),
            torch.nn.Linear(64, 8),
            torch.nn.BatchNorm1d(8),
            torch.nn.Linear(8, num_classes),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.modes.append(self.training)
        return super().forward(images)


NORMED = {"_target_": f"{__name__}.WithBatchNorm"}


def maker(folder: Path) -> tuple[Maker, list[object]]:
    events: list[object] = []
    hardware = Hardware(device="cpu", threads=1, jobs=1)
    return Maker(Store(folder), DATASET, hardware, {}, events.append), events


def test_the_teacher_stays_in_eval_mode_and_as_it_was(tmp_path, monkeypatch):
    """Under augmentation the teacher sees every batch: its weights and BatchNorm statistics must not move."""
    placed = []
    original = Answers.network

    def network(self, stage):
        placed.append(original(self, stage))
        return placed[-1]

    monkeypatch.setattr(Answers, "network", network)
    shop, _ = maker(tmp_path)
    teacher = make_stage(NORMED)
    student = make_stage(MLP, KD, (teacher,), augment=MOVING)
    shop.train({"teacher": teacher})
    WithBatchNorm.modes.clear()
    shop.train({"teacher": teacher, "student": student})
    assert WithBatchNorm.modes and not any(WithBatchNorm.modes)
    (asked,) = placed
    stored = load_file(shop.weights(teacher))
    assert all(torch.equal(stored[name], value) for name, value in asked.state_dict().items())
    assert not any(parameter.requires_grad for parameter in asked.parameters())


def test_the_student_trains_in_train_mode_in_every_epoch(tmp_path):
    WithBatchNorm.modes.clear()
    train(make_stage(NORMED, epochs=3, batch_size=30), tmp_path)
    assert WithBatchNorm.modes == [True, True, False] * 3  # two batches, then validation


def test_stored_logits_are_what_the_teacher_says(tmp_path):
    shop, _ = maker(tmp_path)
    teacher = make_stage(CNN)
    shop.train({"teacher": teacher})
    stored = shop.answers.teaching(make_stage(MLP, KD, (teacher,))).ask
    asked = shop.answers.teaching(make_stage(MLP, KD, (teacher,), augment=MOVING)).ask
    inputs = Inputs(DATASET.train, DATASET, CPU)
    some = torch.tensor([5, 0, 17])
    images = inputs.batch(some)
    (kept,), (said,) = stored(some, images), asked(some, images)
    torch.testing.assert_close(kept.logits, said.logits)


def test_distillation_moves_the_student_towards_its_teacher(tmp_path):
    shop, _ = maker(tmp_path)
    teacher = make_stage(CNN, epochs=10)
    by_alpha = {}
    shop.train({"teacher": teacher})
    for alpha in (0.0, 1.0):
        student = make_stage(MLP, kd_objective(2.0, alpha), (teacher,), epochs=15)
        shop.train({"teacher": teacher, "student": student})
        divergence = torch.nn.functional.kl_div(
            shop.answers.outputs(student, "train", "logits").log_softmax(1),
            shop.answers.outputs(teacher, "train", "logits").softmax(1),
            reduction="batchmean",
        )
        by_alpha[alpha] = divergence.item()
    assert by_alpha[0.0] < by_alpha[1.0]


def test_the_maker_makes_everything_once(tmp_path):
    shop, events = maker(tmp_path)
    teacher = make_stage(CNN)
    student = make_stage(MLP, KD, (teacher,))
    links, teachers = {"teacher": teacher, "student": student}, {"student": Panel({"teacher": teacher})}
    first, second = (shop.obtain(links, teachers) for _ in range(2))
    finished = [(event.role, event.reused) for event in events if hasattr(event, "reused")]
    assert finished == [("teacher", False), ("student", False), ("teacher", True), ("student", True)]
    assert [network.reused for network in (*first.values(), *second.values())] == [False] * 2 + [True] * 2
    assert second["student"].test == first["student"].test and first["student"].test.agreement is not None
    kept = first["student"].history[first["student"].best_epoch - 1]
    assert first["student"].val == Selection.of_epoch(kept)
    entries = [path for path in tmp_path.iterdir() if (path / "SHA256SUMS").exists()]
    # two stages, two evaluations, two costs; logits of both on test, of the teacher on train
    assert len(entries) == 9


def test_an_ensemble_averages_probabilities(tmp_path):
    shop, _ = maker(tmp_path)
    stages = [make_stage(CNN), make_stage(MLP), make_stage(MLP, seed=1)]
    members = {f"member{i}": stage for i, stage in enumerate(stages)}
    results = shop.obtain(members, {})
    for split in ("val", "test"):
        expected = (
            sum(shop.answers.outputs(stage, split, "logits").double().softmax(1) for stage in stages) / 3
        )
        torch.testing.assert_close(shop.answers.averaged(Panel(members), split).double().softmax(1), expected)
    ensemble = shop.ensemble(Panel(members), None, results)
    labels = torch.tensor(DATASET.test.labels)
    assert ensemble.test.accuracy == (expected.argmax(1) == labels).double().mean()
    metrics = selection_metrics(
        shop.answers.averaged(Panel(members), "val"), torch.tensor(DATASET.val.labels)
    )
    assert ensemble.val.metrics() == pytest.approx(metrics)
    assert ensemble.cost.parameters == sum(each.cost.parameters for each in results.values())


def test_several_teachers_are_heard_together(tmp_path):
    """What is stored of them is what they say of a batch; the loss is the average of theirs."""
    shop, _ = maker(tmp_path)
    teachers = (make_stage(CNN), make_stage(MLP))
    for teacher in teachers:
        shop.train({"teacher": teacher})
    stored = shop.answers.teaching(make_stage(MLP, KD, teachers)).ask
    asked = shop.answers.teaching(make_stage(MLP, KD, teachers, augment=MOVING)).ask
    some = torch.tensor([5, 0, 17])
    images = Inputs(DATASET.train, DATASET, CPU).batch(some)
    kept, said = stored(some, images), asked(some, images)
    for one, other in zip(kept, said, strict=True):
        torch.testing.assert_close(one.logits, other.logits)
    labels = torch.tensor(DATASET.train.labels[some.numpy()])

    def loss(heard: list[Outputs]) -> torch.Tensor:
        batch = Batch(Outputs(student), heard, labels, some)
        return Loss(KD, setting_of(batch, 3), seed=0)(batch)["loss"]

    student = torch.randn(3, 3)
    torch.testing.assert_close(loss(said), sum(loss([each]) for each in said) / 2)


def test_teacher_and_student_are_never_one_object(tmp_path, monkeypatch):
    """Though they be of one recipe: a born-again student learns from another network than itself."""
    from kdsweep.training import member as module

    shop, _ = maker(tmp_path)
    teacher = make_stage(NORMED)
    shop.train({"teacher": teacher})
    before = (tmp_path / teacher.key / "weights.safetensors").read_bytes()
    networks = []
    for owner, name in ((Answers, "network"), (module, "build_initial")):
        original = getattr(owner, name)

        def noted(*arguments, original=original):
            networks.append(original(*arguments))
            return networks[-1]

        monkeypatch.setattr(owner, name, noted)
    shop.train({"teacher": teacher, "student": make_stage(NORMED, KD, (teacher,), augment=MOVING)})
    one, other = networks
    assert one is not other
    shared = {tensor.data_ptr() for tensor in one.state_dict().values()}
    assert not shared & {tensor.data_ptr() for tensor in other.state_dict().values()}
    assert (tmp_path / teacher.key / "weights.safetensors").read_bytes() == before


def test_selection_metrics_are_of_the_validation_split(tmp_path):
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    val = Inputs(DATASET.val, DATASET, CPU)
    outputs = logits(network, val)
    metrics = selection_metrics(outputs, val.labels)
    probabilities = outputs.double().softmax(1).numpy()
    expected = -np.log(probabilities[np.arange(24), DATASET.val.labels]).mean()
    assert metrics["val/cross_entropy"] == pytest.approx(expected, rel=1e-5)
    assert metrics["val/accuracy"] == (probabilities.argmax(1) == DATASET.val.labels).mean()


# no image held back for validation

WHOLE = replace(DATASET, val=None)
UNSELECTED = {
    "last": make_stage(CNN, keep="last"),
    "patience that the last epoch would end": make_stage(CNN, keep="last", patience=3),
    "training loss": VARIANTS["training loss"],
    "the head alone": make_stage(CNN, keep="last", trainable="head"),
}


def fit_whole(stage: Stage, folder: Path, on_epoch=lambda *event: None) -> Fitted:
    return fit(stage, WHOLE, Teaching(), CPU, folder, on_epoch)


@pytest.mark.parametrize("name", UNSELECTED)
def test_without_validation_the_same_weights_come_out(tmp_path, name):
    """For what validation does not choose, its images make no difference."""
    with_val, without = train(UNSELECTED[name], tmp_path / "a"), fit_whole(UNSELECTED[name], tmp_path / "b")
    assert all(torch.equal(with_val.weights[name], tensor) for name, tensor in without.weights.items())
    figures = [{k: v for k, v in epoch.items() if not k.startswith("val/")} for epoch in with_val.history]
    assert (without.history, without.best_epoch) == (figures, with_val.best_epoch)


@pytest.mark.parametrize("name", UNSELECTED)
def test_an_interrupted_training_without_validation_goes_on_bit_for_bit(tmp_path, monkeypatch, name):
    monkeypatch.setattr("kdsweep.training.checkpoint.SECONDS_BETWEEN_SAVES", 0)
    stage, seen = UNSELECTED[name], []

    def kill(epoch: int, metrics: object, seconds: float) -> None:
        seen.append(epoch)
        if seen == [1, 2]:
            raise KeyboardInterrupt

    whole = fit_whole(stage, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit_whole(stage, tmp_path / "resumed", kill)
    assert_same(whole, fit_whole(stage, tmp_path / "resumed", kill))
    assert seen == list(range(1, len(whole.history) + 1))


def test_weights_as_they_are_need_no_validation_but_numbers(tmp_path, monkeypatch):
    as_they_are = fit_whole(make_stage(MLP, epochs=0), tmp_path / "a")
    assert (as_they_are.history, as_they_are.best_epoch) == ([{}], 1)
    monkeypatch.setattr(torch.nn.Linear, "reset_parameters", lambda layer: layer.weight.data.fill_(torch.nan))
    with pytest.raises(TrainingError, match="its weights give outputs that are NaN or infinity"):
        fit_whole(make_stage(MLP, epochs=0), tmp_path / "b")
