"""Several stages in one pass: each is as alone, but for the order in which sums are formed."""

import inspect
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fitting import CPU, DATASET, SAID, TERMS, assert_same, fit
from helpers import CNN, MLP, kd_objective, labels_and, make_dataset, make_stage, optimizer, schedule
from safetensors import safe_open
from torch import nn
from zoo_examples import METHODS, objective

from kdsweep.config import Augment, FineTuning
from kdsweep.config.code import import_component
from kdsweep.data.dataset import Dataset
from kdsweep.data.split import Split
from kdsweep.errors import TrainingError
from kdsweep.methods import all_taps
from kdsweep.methods.term import Outputs
from kdsweep.networks.build import build
from kdsweep.networks.taps import Tapped
from kdsweep.stage import LOGITS, Average, Stage
from kdsweep.training import fit as fitting
from kdsweep.training import trial
from kdsweep.training.checkpoint import Checkpoint
from kdsweep.training.fit import fit_together
from kdsweep.training.member import Fitted, Member, Task
from kdsweep.training.network import Inputs, place
from kdsweep.training.teaching import Teaching
from kdsweep.training.trial import faster_together

SGD = optimizer("SGD", momentum=0.9)
TEACHER = make_stage(CNN)
MOVING = Augment(crop_padding=1, horizontal_flip=True)
WARM = {"_target_": "kdsweep.training.schedules.warmup_cosine", "epochs": "epochs", "start_factor": 0.0}


FALLING = schedule("ExponentialLR", gamma=0.9)


def layers(*each: object) -> dict[str, object]:
    return {"_target_": "kdsweep.networks.zoo.layers.Layers", "layers": list(each)}


def zoo(name: str, **options: object) -> dict[str, object]:
    return {"_target_": f"kdsweep.networks.zoo.{name}", **options}


POOLED = layers({"conv": 8}, "relu", {"maxpool": 2}, "flatten", {"dense": 16}, "relu")
NORMED = layers({"conv": 8}, "batch_norm", "relu", "global_avgpool", {"dense": 16}, "batch_norm", "relu")
DROPPED = layers(
    {"conv": 8}, "relu", {"dropout": 0.3}, {"maxpool": 2}, "flatten", {"dense": 16}, {"dropout": 0.5}
)
RESNET = zoo("resnet.SmallResNet", depth=8)


def student(model: dict[str, object] = MLP, objective=None, parents=(TEACHER,), **recipe: object) -> Stage:
    """Plain steps with momentum: unlike Adam's they keep differences as small as rounding makes them."""
    chosen = {"optimizer": SGD, "learning_rate": 0.02, "epochs": 3, **recipe}
    return make_stage(model, kd_objective() if objective is None else objective, parents, **chosen)


def ask(indices: torch.Tensor, inputs: torch.Tensor) -> list[Outputs]:
    """A teacher whose maps have one image's size in all the networks here."""
    taps = {"embedding": (SAID[1][indices],), "stage1": (SAID[2][indices],)}
    return [Outputs(SAID[0][indices], taps)]


def tasks_of(stages: Sequence[Stage], folder: Path, ask=ask, on_epoch=lambda *event: None) -> list[Task]:
    teaching = Teaching(ask)
    return [Task(stage, teaching, folder / str(number), on_epoch) for number, stage in enumerate(stages)]


def alone(stages: Sequence[Stage], folder: Path, ask=ask, dataset: Dataset = DATASET) -> list[Fitted]:
    return [
        fit(stage, dataset, Teaching(ask), CPU, folder / str(number), lambda *event: None)
        for number, stage in enumerate(stages)
    ]


def together(stages: Sequence[Stage], folder: Path, ask=ask, dataset: Dataset = DATASET) -> list[Fitted]:
    return [member.fitted() for member in fit_together(tasks_of(stages, folder, ask), dataset, CPU)]


def assert_close(one: Fitted, other: Fitted, bound: float = 1e-4) -> None:
    """Of one training, but for rounding."""
    assert one.weights.keys() == other.weights.keys()
    for name, weights in one.weights.items():
        assert weights.dtype == other.weights[name].dtype and weights.shape == other.weights[name].shape
        difference = (weights.double() - other.weights[name].double()).abs().max().item()
        assert difference <= bound, f"{name} differs by {difference}"
    assert (one.best_epoch, len(one.history)) == (other.best_epoch, len(other.history))
    for ours, theirs in zip(one.history, other.history, strict=True):
        assert list(ours) == list(theirs)
        assert ours == pytest.approx(theirs, abs=0.04 if bound > 1e-3 else 1e-3)


def assert_as_alone(
    stages: Sequence[Stage], folder: Path, ask=ask, dataset: Dataset = DATASET, bound: float = 1e-4
) -> None:
    expected = alone(stages, folder / "alone", ask, dataset)
    found = together(stages, folder / "together", ask, dataset)
    assert [each.together for each in found] == [len(stages)] * len(stages)
    for one, other in zip(expected, found, strict=True):
        assert_close(one, other, bound)


def seeds(*of: int, **recipe: object) -> list[Stage]:
    return [student(seed=seed, **recipe) for seed in of]


DKD = [{**TERMS["dkd"], "beta": beta, "warmup": 0.5} for beta in (1.0, 8.0)]
TAPPED = {
    "at": {"_target_": "kdsweep.methods.features.at.at", "taps": ["stage1"]},
    "sp": {"_target_": "kdsweep.methods.relations.sp.sp", "taps": "embedding"},
    "pkt": {"_target_": "kdsweep.methods.relations.pkt.pkt", "taps": "embedding"},
}


def smoothed(smoothing: float, weight: float = 0.5) -> dict[str, object]:
    return {**labels_and()["labels"], "smoothing": smoothing, "weight": weight}


FINE = FineTuning(epochs=2, learning_rate=0.005, trainable="all")


def of_logits(name: str, number: str, *values: float) -> list[Stage]:
    """Stages of a method that differ in a number of its term."""
    terms = objective(name)
    (term,) = terms.keys() - {"labels"}
    return [student(objective={**terms, term: {**terms[term], number: value}}) for value in values]


NUMBERS = {
    "dist": ("beta", 0.5, 2.0),
    "logit_std": ("temperature", 1.0, 4.0),
    "nkd": ("gamma", 0.5, 1.5),
    "normkd": ("temperature", 1.0, 4.0),
    "rld": ("label_temperature", 1.0, 2.0),
    "tfkd_reg": ("temperature", 5.0, 20.0),
    "ttm": ("gamma", 0.1, 0.5),
    "wsld": ("temperature", 1.0, 4.0),
    "wttm": ("gamma", 0.1, 0.5),
}
HEAD = FINE.model_copy(update={"trainable": "head"})
SAME = {
    "perceptrons, equal seeds": [
        student(objective=kd_objective(t, a)) for t, a in ((1, 0.5), (4, 0.1), (9, 0.9))
    ],
    "perceptrons, several seeds": seeds(0, 1, 2),
    "seeds 0, 0 and 1": [
        student(objective=kd_objective(t), seed=s) for t, s in ((1.0, 0), (4.0, 0), (1.0, 1))
    ],
    "max-pooling": seeds(0, 1, model=POOLED),
    "batch normalization": seeds(0, 1, model=NORMED),
    "dropout, one seed": [student(DROPPED, kd_objective(t)) for t in (1.0, 4.0)],
    "dropout, several seeds": seeds(0, 0, 1, model=DROPPED),
    "dropout of channels": seeds(0, 1, model={**CNN, "dense_dropout": 0.0}),
    "a term's weight with warm-up and decay": [
        student(objective=labels_and(0.5, kd={**TERMS["kd"], "weight": w, "warmup": 2, "decay": 0.7}))
        for w in (0.5, 2.0)
    ],
    "a term's warm-up": [
        student(objective=labels_and(0.5, kd={**TERMS["kd"], "warmup": w})) for w in (1, 3)
    ],
    "another number": [student(objective=labels_and(0.5, dkd=term)) for term in DKD],
    "rates": [student(learning_rate=rate) for rate in (0.02, 0.001, 0.05, 0.02)],
    "rates that begin as 0": [student(learning_rate=rate, schedule=WARM) for rate in (0.02, 0.001)],
    "a weight decay that one leaves to its default": [
        student(optimizer={**SGD, **decay}) for decay in ({"weight_decay": 0.1}, {})
    ],
    "weight decays": [
        student(optimizer={**SGD, "weight_decay": decay}) for decay in (0.1, 0.0, 0.01, 0.1)
    ],
    "short gradients": seeds(0, 1, clip_norm=0.05),
    "moving average": seeds(0, 1, model=NORMED, ema=0.9),
    "augmentation": seeds(0, 0, 1, augment=MOVING),
    "mixup": seeds(0, 1, augment=Augment(mixup=0.8)),
    "mixup or cutmix": seeds(0, 1, augment=Augment(mixup=0.8, cutmix=1.0)),
    "smoothed labels": [
        student(objective=labels_and(0.5, labels=smoothed(0.2, w), kd=TERMS["kd"])) for w in (0.1, 0.5)
    ],
    "balanced": seeds(0, 1, sampling="balanced"),
    "two phases": [
        student(seed=s, fine_tuning=FINE.model_copy(update={"learning_rate": rate}))
        for s, rate in ((0, 0.005), (1, 0.05))
    ],
    "two phases, a frozen front": seeds(0, 1, model=POOLED, fine_tuning=HEAD),
    "two phases, a frozen front, augmentation": seeds(
        0, 1, model=DROPPED, augment=MOVING, fine_tuning=HEAD
    ),
    "the last epoch": seeds(0, 1, keep="last"),
    "by the training loss": seeds(0, 1, monitor="train/loss"),
    "without a teacher": [make_stage(MLP, seed=s, optimizer=SGD, learning_rate=0.02) for s in (0, 1)],
    **{
        f"taps of {name}": seeds(0, 1, model=RESNET, objective=labels_and(0.5, **{name: term}), epochs=2)
        for name, term in TAPPED.items()
    },
    **{f"a number of {name}": of_logits(name, *numbers) for name, numbers in NUMBERS.items()},
    "taps of equal seeds": [
        student(RESNET, labels_and(1 - w, at=TAPPED["at"], sp=TAPPED["sp"]), epochs=2) for w in (0.5, 0.9)
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_each_is_as_alone(tmp_path, name):
    assert_as_alone(SAME[name], tmp_path)


ZOO = {
    "resnet": (RESNET, (3, 8, 8)),
    "wrn": (zoo("wrn.WideResNet", depth=10, width=1, dropout=0.3), (3, 8, 8)),
    "mobilenet_v2": (zoo("mobilenet_v2.MobileNetV2", width=0.25), (3, 32, 32)),
    "shufflenet_v2": (zoo("shufflenet_v2.ShuffleNetV2", width=0.5), (3, 16, 16)),
    "vgg": (zoo("vgg.VGG", depth=8), (3, 16, 16)),
    "mnist_cnn": (CNN, (1, 8, 8)),
}


@pytest.mark.parametrize("name", ZOO)
def test_networks_of_the_zoo_are_as_alone(tmp_path, name):
    model, shape = ZOO[name]
    dataset = make_dataset(train=40, val=12, test=6, shape=shape)
    stages = [student(model, seed=s, epochs=1, batch_size=20, learning_rate=0.005) for s in (0, 1)]
    assert_as_alone(stages, tmp_path, dataset=dataset, bound=1e-3)


def test_adams_steps_are_as_alone_but_for_weights_without_gradient(tmp_path):
    stages = [student(CNN, seed=s, optimizer=optimizer("Adam"), learning_rate=0.003) for s in (0, 0, 1)]
    one, other = alone(stages, tmp_path / "alone"), together(stages, tmp_path / "together")
    for ours, theirs in zip(one, other, strict=True):
        losses = [[epoch["train/loss"] for epoch in each.history] for each in (ours, theirs)]
        assert losses[0] == pytest.approx(losses[1], rel=2e-3)


LABELED, UNLABELED = 20, 40
OTHERS = DATASET.train.images[LABELED:].copy()
MIXED = replace(
    make_dataset(train=LABELED),
    unlabeled=Split(OTHERS, torch.arange(UNLABELED).numpy(), torch.full((UNLABELED,), -1).numpy()),
    unlabeled_fingerprint="others",
)


@pytest.mark.parametrize("share", [None, 0.5, 1])
@pytest.mark.parametrize("augment", [Augment(), Augment(mixup=0.8)])
def test_with_images_without_labels_too(tmp_path, share, augment):
    stages = [
        replace(each, data={**each.data, "unlabeled": {"fingerprint": "others", "share": share}})
        for each in (
            student(objective=kd_objective(t), seed=s, augment=augment)
            for t, s in ((1.0, 0), (4.0, 0), (4.0, 1))
        )
    ]
    assert_as_alone(stages, tmp_path, dataset=MIXED)


@pytest.mark.parametrize("average", [Average(), Average("terms", (0.3, 0.7)), Average(LOGITS)])
def test_of_several_teachers(tmp_path, average):
    parents = (TEACHER, make_stage(MLP))
    stages = [replace(student(parents=parents, seed=s), average=average) for s in (0, 1)]
    heard = 1 if average.of == LOGITS else 2

    def ask(indices: torch.Tensor, inputs: torch.Tensor) -> list[Outputs]:
        return [Outputs(SAID[0][indices]), Outputs(-2 * SAID[0][indices])][:heard]

    assert_as_alone(stages, tmp_path, ask)


def test_behind_a_frozen_front_each_trains_by_its_own_features(tmp_path, monkeypatch):
    """One by one, and none keeps them when it is at its end."""
    passes: list[int] = []

    class Noted(fitting.Stacked):
        def __init__(self, members: Sequence[Member]) -> None:
            passes.append(members[0].progress.phase)
            super().__init__(members)

    monkeypatch.setattr(fitting, "Stacked", Noted)
    stages = SAME["two phases, a frozen front"]
    members = fit_together(tasks_of(stages, tmp_path), DATASET, CPU)
    assert passes == [0] and not any(hasattr(member, "learner") for member in members)
    assert [len(member.fitted().history) for member in members] == [5, 5]


# teachers and images are shared


def asked(stages: Sequence[Stage], folder: Path) -> list[int]:
    """How often each stage's teacher is asked in a pass of one epoch."""
    counts = [0] * len(stages)

    def ask_of(number: int):
        def count(indices: torch.Tensor, inputs: torch.Tensor) -> list[Outputs]:
            counts[number] += 1
            return ask(indices, inputs)

        return count

    fit_together(
        [Task(stage, Teaching(ask_of(number)), folder / str(number)) for number, stage in enumerate(stages)],
        DATASET,
        CPU,
    )
    return counts


def test_a_teacher_is_asked_once_for_all_of_a_seed(tmp_path):
    batches = math.ceil(len(DATASET.train.labels) / 16)
    stages = [student(objective=kd_objective(t), seed=s, epochs=1) for s in (0, 1) for t in (1.0, 2.0, 4.0)]
    for chosen, teachers in ((stages[:3], 1), (stages, 2), (stages[::3], 2)):
        counts = asked(chosen, tmp_path / str(len(chosen)))
        assert (
            sorted(counts, reverse=True)[:teachers] == [batches] * teachers
            and sum(counts) == batches * teachers
        )


def test_another_teacher_of_the_same_seed_is_asked_too(tmp_path):
    stages = [student(parents=(make_stage(CNN, seed=s),), epochs=1) for s in (0, 1)]
    assert min(asked(stages, tmp_path)) > 0


# each ends for itself


def test_each_stops_at_an_epoch_of_its_own(tmp_path):
    stages = [
        student(seed=s, epochs=40, patience=2, learning_rate=rate, monitor="val/cross_entropy")
        for s, rate in ((0, 0.05), (1, 0.2), (2, 0.1), (3, 0.2))
    ]
    expected = alone(stages, tmp_path / "alone")
    epochs = [len(each.history) for each in expected]
    assert len(set(epochs)) > 2 and max(epochs) < 40
    seen: list[list[int]] = [[] for _ in stages]
    tasks = [
        replace(task, on_epoch=lambda epoch, *event, of=of: of.append(epoch))
        for task, of in zip(tasks_of(stages, tmp_path / "together"), seen, strict=True)
    ]
    for one, member in zip(expected, fit_together(tasks, DATASET, CPU), strict=True):
        assert_close(one, member.fitted(), 1e-3)
    assert seen == [list(range(1, count + 1)) for count in epochs], "each has its own curves"


def test_one_that_is_no_number_fails_alone(tmp_path):
    """Whatever place it has, and the loss or the validation shows it."""
    stages = [student(learning_rate=rate) for rate in (0.02, 1e30, 0.01)]
    expected = alone([stages[0], stages[2]], tmp_path / "alone")
    first, broken, last = fit_together(tasks_of(stages, tmp_path / "together"), DATASET, CPU)
    for one, member in zip(expected, (first, last), strict=True):
        assert_close(one, member.fitted())
    with pytest.raises(TrainingError, match=r"no longer finite in epoch 1; lower the learning rate, 1e\+30"):
        broken.fitted()


# killed and resumed

MEMORIES = {
    "SGD": optimizer("SGD"),
    "momentum": SGD,
    "Adam": optimizer("Adam", amsgrad=True),
    "AdamW": optimizer("AdamW", weight_decay=0.1),
    "RMSprop": optimizer("RMSprop", momentum=0.5, centered=True),
    "NAdam": optimizer("NAdam"),
    "RAdam": optimizer("RAdam"),
    "Adagrad": optimizer("Adagrad"),
    "Adadelta": optimizer("Adadelta"),
    "Adamax": optimizer("Adamax"),
    "Rprop": optimizer("Rprop"),
}


def killed(tasks: Sequence[Task], after: int, last: bool = True) -> None:
    """A pass that is killed once its last (or first) member has reported an epoch."""

    def kill(epoch: int, *event: object) -> None:
        if epoch == after:
            raise KeyboardInterrupt

    place = -1 if last else 0
    dying = list(tasks)
    dying[place] = replace(dying[place], on_epoch=kill)
    with pytest.raises(KeyboardInterrupt):
        fit_together(dying, DATASET, CPU)


@pytest.fixture
def saved(monkeypatch) -> None:
    monkeypatch.setattr("kdsweep.training.checkpoint.SECONDS_BETWEEN_SAVES", 0)


@pytest.mark.usefixtures("saved")
@pytest.mark.parametrize("name", MEMORIES)
def test_a_pass_goes_on_bit_for_bit(tmp_path, name):
    stages = [
        student(
            seed=seed, learning_rate=rate, epochs=4, keep="last", optimizer=MEMORIES[name], schedule=FALLING
        )
        for seed, rate in ((0, 0.002), (1, 0.004), (1, 0.002))
    ]
    whole = together(stages, tmp_path / "whole")
    killed(tasks_of(stages, tmp_path / "killed"), 2)
    for one, other in zip(whole, together(stages, tmp_path / "killed"), strict=True):
        assert_same(one, other)
    for one, other in zip(alone(stages, tmp_path / "alone"), whole, strict=True):
        assert_close(one, other, 0.02)


@pytest.mark.usefixtures("saved")
@pytest.mark.parametrize("name", ["augmentation", "moving average", "two phases", "dropout, several seeds"])
@pytest.mark.parametrize("after", [1, 3])
def test_all_that_a_member_has_goes_on_bit_for_bit(tmp_path, name, after):
    stages = SAME[name]
    whole = together(stages, tmp_path / "whole")
    killed(tasks_of(stages, tmp_path / "killed"), after)
    again = together(stages, tmp_path / "killed")
    for one, other in zip(whole, again, strict=True):
        assert_same(one, other)
        assert other.together == len(stages)


@pytest.mark.usefixtures("saved")
@pytest.mark.parametrize("name", MEMORIES)
def test_what_one_way_has_begun_the_other_ends(tmp_path, name):
    stages = [
        student(seed=s, optimizer=MEMORIES[name], learning_rate=0.002, epochs=4, keep="last") for s in (0, 1)
    ]
    expected = alone(stages, tmp_path / "expected")
    killed(tasks_of(stages, tmp_path / "one"), 2)
    begun = alone(stages, tmp_path / "one")
    for number in range(2):
        tasks = tasks_of(stages, tmp_path / "other")[number : number + 1]
        killed(tasks, 2)
    ended = together(stages, tmp_path / "other")
    assert [each.together for each in begun + ended] == [2] * 4, (
        "whoever ends it, it says that it was in a pass"
    )
    for results in (begun, ended):
        for one, other in zip(expected, results, strict=True):
            assert_close(one, other, 0.02)


@pytest.mark.usefixtures("saved")
def test_members_that_have_come_differently_far_all_end_right(tmp_path):
    stages = seeds(0, 1, 2, 3, epochs=5)
    expected = alone(stages, tmp_path / "alone")
    tasks = tasks_of(stages, tmp_path / "together")
    killed(tasks[:1], 3)
    killed(tasks[1:3], 2)
    members = fit_together(tasks, DATASET, CPU)
    assert [member.fitted().together for member in members] == [1, 2, 2, 1]
    for one, member in zip(expected, members, strict=True):
        assert_close(one, member.fitted())


@pytest.mark.usefixtures("saved")
@pytest.mark.parametrize("step", ["write", "replace"])
def test_a_pass_that_is_killed_while_it_saves_ends_right(tmp_path, monkeypatch, step):
    """Also where some checkpoints are of its last epoch, and others of the one before."""
    stages = seeds(0, 1, 2)
    expected = alone(stages, tmp_path / "alone")
    original, steps = getattr(Checkpoint, step), []

    def dying(checkpoint, *given):
        steps.append(checkpoint)
        if len(steps) == 5:  # the second member's, after its second epoch
            raise KeyboardInterrupt
        original(checkpoint, *given)

    monkeypatch.setattr(Checkpoint, step, dying)
    with pytest.raises(KeyboardInterrupt):
        together(stages, tmp_path / "killed")
    for one, other in zip(expected, together(stages, tmp_path / "killed"), strict=True):
        assert_close(one, other)


@pytest.mark.usefixtures("saved")
def test_one_that_was_at_its_end_stays_there(tmp_path):
    """A pass was killed after one member had stopped, and the others go on without it."""
    stages = seeds(0, 1, 2, epochs=4)
    stages[0] = student(seed=0, epochs=4, patience=1, monitor="train/loss", learning_rate=3.0)
    tasks = tasks_of(stages, tmp_path)
    expected = together(stages, tmp_path / "whole")
    assert len(expected[0].history) < 4
    killed(tasks, 3)
    for one, other in zip(expected, together(stages, tmp_path), strict=True):
        assert_same(one, other)


@pytest.mark.usefixtures("saved")
def test_a_damaged_checkpoint_is_that_of_one_member(tmp_path):
    stages = seeds(0, 1)
    expected = alone(stages, tmp_path / "alone")
    tasks = tasks_of(stages, tmp_path / "together")
    killed(tasks, 2)
    (tasks[1].unfinished / "checkpoint.safetensors").write_bytes(b"damaged")
    for one, member in zip(expected, fit_together(tasks, DATASET, CPU), strict=True):
        assert_close(one, member.fitted())


@pytest.mark.usefixtures("saved")
def test_a_members_checkpoint_holds_it_alone(tmp_path):
    """As large as that of a training alone: views of stacked tensors are stored as what they show."""
    stages = seeds(0, 1, model=NORMED, ema=0.9)
    killed(tasks_of(stages[:1], tmp_path / "alone"), 1)
    killed(tasks_of(stages, tmp_path / "together"), 1)
    shapes = []
    for folder in ("alone", "together"):
        with safe_open(tmp_path / folder / "0" / "checkpoint.safetensors", framework="pt") as file:
            shapes.append({name: file.get_tensor(name).shape for name in file.keys()})  # noqa: SIM118
            assert json.loads(file.metadata()["progress"])["together"] == (1 if folder == "alone" else 2)
    assert shapes[0] == shapes[1]


def test_a_pass_leaves_the_global_generator_as_it_was(tmp_path):
    before = torch.get_rng_state()
    together(SAME["dropout, one seed"], tmp_path / "one")
    together(SAME["dropout, several seeds"], tmp_path / "several")
    assert torch.equal(before, torch.get_rng_state())


# distributions


def test_over_twenty_seeds_accuracies_are_those_alone(tmp_path):
    """With dropout and augmentation, which both ways draw alike. Adam turns rounding into other weights, so a
    seed may differ by some images; of the means, the 95% interval of a paired t-test over the seeds must
    contain 0, and is narrower than 1.5 points, while seeds differ from each other by more."""
    dataset = make_dataset(train=60, val=300)
    stages = [
        student(
            DROPPED,
            seed=s,
            augment=MOVING,
            optimizer=optimizer("Adam"),
            learning_rate=0.004,
            epochs=4,
            keep="last",
        )
        for s in range(20)
    ]
    ours = [each.history[-1]["val/accuracy"] for each in alone(stages, tmp_path / "alone", dataset=dataset)]
    theirs = [
        each.history[-1]["val/accuracy"] for each in together(stages, tmp_path / "one", dataset=dataset)
    ]
    assert statistics.stdev(ours) > 0.01, "seeds differ, so that there is something to compare"
    differences = [one - other for one, other in zip(ours, theirs, strict=True)]
    assert max(map(abs, differences)) <= 0.03
    half = 2.093 * statistics.stdev(differences) / math.sqrt(20)  # t of 19 degrees of freedom
    assert abs(statistics.mean(differences)) <= max(half, 1e-6) and half < 0.0075
    assert statistics.stdev(theirs) == pytest.approx(statistics.stdev(ours), rel=0.1)


# which may be stacked


class Own(nn.Module):
    """A user's network, of which a subclass says what its features pass through."""

    def __init__(self, num_classes: int, in_channels: int, image_size: tuple[int, int]) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(64, 16), nn.Linear(16, num_classes)
        self.register_buffer("mean", torch.zeros(16))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.last(self.change(self.first(images.flatten(1)).relu()))

    def change(self, values: torch.Tensor) -> torch.Tensor:
        return values


class Draws(Own):
    def change(self, values: torch.Tensor) -> torch.Tensor:
        return values + 1e-6 * torch.rand_like(values)


class Looks(Own):
    def change(self, values: torch.Tensor) -> torch.Tensor:
        return values / max(1.0, values.max().item())


class Remembers(Own):
    """Replaces its buffer instead of changing it in place, which a pass would not see."""

    def change(self, values: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * values.detach().mean(0)
        return values


class RemembersInPlace(Own):
    def change(self, values: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.mean.mul_(0.9).add_(0.1 * values.detach().mean(0))
        return values - self.mean


class Twice(Own):
    """Has one dropout in two places."""

    def __init__(self, **given: object) -> None:
        super().__init__(**given)
        drop = nn.Dropout(0.3)
        self.both = nn.Sequential(drop, nn.Identity(), drop)

    def change(self, values: torch.Tensor) -> torch.Tensor:
        return self.both(values)


class Tied(Own):
    """Has one weight in two places, a weight of no dimension, and one that it does not use."""

    def __init__(self, **given: object) -> None:
        super().__init__(**given)
        self.again, self.unused = nn.Linear(16, 16), nn.Linear(16, 16)
        self.third = nn.Linear(16, 16)
        self.third.weight = self.again.weight
        self.scale = nn.Parameter(torch.tensor(1.0))

    def change(self, values: torch.Tensor) -> torch.Tensor:
        return self.scale * self.third(self.again(values))


def own(kind: type) -> dict[str, object]:
    return {"_target_": f"{__name__}.{kind.__name__}"}


@pytest.fixture
def trying(tmp_path, monkeypatch):
    """A trial that looks at whether stages may be stacked, not at the time; it must leave nothing."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def tried(stages: Sequence[Stage], timed: bool = False, ask=ask) -> int:
        before = torch.get_rng_state()
        count = faster_together(tasks_of(stages, tmp_path / "unfinished", ask), DATASET, CPU, timed)
        left = [*tmp_path.glob("kdsweep-*"), *tmp_path.glob("unfinished")]  # torch has a folder there too
        assert not left and torch.equal(before, torch.get_rng_state())
        return count

    return tried


@pytest.mark.parametrize("kind", [RemembersInPlace, Twice, Tied])
@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_networks_of_ones_own_are_as_alone(tmp_path, trying, kind, clip_norm):
    stages = seeds(0, 1, model=own(kind), clip_norm=clip_norm)
    assert trying(stages) == 2
    assert_as_alone(stages, tmp_path)


@pytest.mark.parametrize(
    "name",
    ["perceptrons, equal seeds", "dropout, several seeds", "batch normalization", "augmentation", "rates"],
)
def test_a_trial_of_what_may_be_stacked(trying, name):
    assert trying(SAME[name]) == len(SAME[name])


def objectives(*terms: dict[str, object]) -> list[Stage]:
    return [student(CNN, labels_and(0.5, own=term)) for term in terms]


def drawing(
    student: torch.Tensor, teacher: torch.Tensor, generator: torch.Generator, scale: float
) -> torch.Tensor:
    return scale * (torch.rand(len(student), 1, generator=generator) * (student - teacher)).square().mean()


def choosing(student: torch.Tensor, teacher: torch.Tensor, threshold: float) -> torch.Tensor:
    return (student - teacher).square().mean() * (2 if threshold > 1 else 1)


def overwriting(student: torch.Tensor, teacher: torch.Tensor, scale: float) -> torch.Tensor:
    return scale * teacher.sub_(student).square().mean()


def term(function: object, **options: object) -> dict[str, object]:
    return {"_target_": f"{__name__}.{function.__name__}", **options}


UNFIT = {
    "adapters": objectives(*({**TERMS["fitnet"], "taps": "stage1", "weight": w} for w in (0.1, 0.5))),
    "terms that draw": objectives(*(term(drawing, scale=s) for s in (0.1, 0.5))),
    "terms that choose by a number": objectives(*(term(choosing, threshold=t) for t in (0.5, 2.0))),
    "terms that overwrite": objectives(*(term(overwriting, scale=s) for s in (0.1, 0.5))),
    "an optimizer that looks at whole tensors": seeds(0, 1, optimizer={"_target_": "timm.optim.Lamb"}),
    "a number that torch takes as such": [
        student(objective=labels_and(0.5, labels=smoothed(s), kd=TERMS["kd"])) for s in (0.0, 0.2)
    ],
    "a frozen front": seeds(0, 1, model=POOLED, trainable="head"),
    "a network that draws, of several seeds": seeds(0, 1, model=own(Draws)),
    "a network that looks at a number": seeds(0, 1, model=own(Looks)),
    "a network that replaces its buffer": seeds(0, 1, model=own(Remembers)),
    "one alone": seeds(0),
    "weights as they are": seeds(0, 1, epochs=0),
    "a loss that is no number": [student(objective=kd_objective(alpha=a)) for a in (0.5, float("nan"))],
}  # fmt: skip


@pytest.mark.parametrize("name", UNFIT)
def test_what_cannot_be_stacked_trains_alone(trying, name):
    assert trying(UNFIT[name]) == 1


@pytest.mark.long
@pytest.mark.parametrize("name", METHODS)
def test_all_methods_without_adapters_may_be_stacked(trying, name):
    terms = objective(name)
    adapters = any(inspect.isclass(import_component(term["_target_"])) for term in terms.values())
    stages = seeds(0, 1, model=RESNET, objective=terms)
    teacher = place(build({**RESNET, "width": 2}, 3, DATASET.shape), CPU).eval().requires_grad_(False)
    tapped = Tapped(teacher, all_taps(terms, "teacher"), Inputs(DATASET.train, DATASET, CPU).first())

    @torch.no_grad()
    def ask(indices: torch.Tensor, images: torch.Tensor) -> list[Outputs]:
        return [tapped(images)]

    assert trying(stages, ask=ask) == (1 if adapters else 2)


def test_a_network_that_draws_may_be_stacked_with_others_of_its_seed(tmp_path, trying):
    stages = [student(own(Draws), kd_objective(t)) for t in (1.0, 4.0)]
    assert trying(stages) == 2
    assert_as_alone(stages, tmp_path)


def test_a_pass_must_be_faster(trying, monkeypatch):
    stages = seeds(0, 1, 2)
    original, slow = trial._tried, {trial.Alone: 0.1, trial.Stacked: 0.29}

    def tried(updates, *given):
        return slow[type(updates)], original(updates, *given)[1]

    monkeypatch.setattr(trial, "_tried", tried)
    assert trying(stages, timed=True) == 3
    slow[trial.Stacked] = 0.31
    assert trying(stages, timed=True) == 1 and trying(stages, timed=False) == 3
    slow.update({trial.Alone: 1.1 * trial.LONG, trial.Stacked: 0.0})  # it is not even tried
    assert trying(stages, timed=True) == 1 and trying(stages, timed=False) == 3


def test_a_pass_has_no_more_than_there_is_memory_for(trying, monkeypatch):
    stages = seeds(*range(8))
    size = 4 * (64 * 16 + 16 + 16 * 3 + 3)
    monkeypatch.setattr(trial, "WEIGHTS", 5 * size)
    assert trying(stages) == 5
    monkeypatch.setattr(
        trial, "ACTIVATIONS", 4 * 16 * (64 + 16) * 3
    )  # of images and of what is hidden, at least
    assert 2 <= trying(stages) <= 3
    monkeypatch.setattr(trial, "ACTIVATIONS", 1000)
    assert trying(stages) == 1


def test_a_trial_touches_no_checkpoint(tmp_path):
    stages = seeds(0, 1)
    tasks = tasks_of(stages, tmp_path)
    killed(tasks, 1)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*.safetensors")}
    events: list[object] = []
    noting = [replace(task, on_epoch=lambda *event: events.append(event)) for task in tasks]
    assert len(before) == 2 and faster_together(noting, DATASET, CPU, timed=False) == 2
    assert {file: file.read_bytes() for file in tmp_path.rglob("*.safetensors")} == before and not events
