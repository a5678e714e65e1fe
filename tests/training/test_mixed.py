"""Trainings on mixed images: by every method, or a refusal before anything is trained."""

import pytest
import torch
from fitting import CPU, DATASET, assert_same, train
from helpers import CNN, MLP, kd_objective, labels_and, make_stage
from planning import planned
from torch import nn
from torch.nn import functional as F
from zoo_examples import METHODS, batch, objective

from kdsweep.config import Augment
from kdsweep.errors import ConfigError
from kdsweep.methods import all_taps, soft_labels
from kdsweep.methods.labels import binary_cross_entropy, cross_entropy
from kdsweep.methods.logits.nkd import nkd
from kdsweep.methods.term import Outputs
from kdsweep.networks import TEACHER
from kdsweep.networks.build import build
from kdsweep.networks.taps import Tapped
from kdsweep.networks.zoo.mlp import MLP as Perceptron
from kdsweep.stage import derive
from kdsweep.stages.chains import ALONE
from kdsweep.training.batches import batches
from kdsweep.training.network import Inputs, place
from kdsweep.training.try_terms import check_terms

RESNET = {"_target_": "kdsweep.networks.zoo.resnet.SmallResNet", "depth": 8}
LARGE = {**RESNET, "width": 2}
MIXED = Augment(mixup=1.0, cutmix=1.0, horizontal_flip=True)
REFUSED = {"crd", "dkd", "nd", "rld", "tfkd_reg", "wsld"}  # whose papers define them for one label per image


@pytest.fixture(scope="module")
def teacher() -> nn.Module:
    torch.manual_seed(1)
    return place(build(LARGE, 3, DATASET.shape), CPU).eval().requires_grad_(False)


@pytest.mark.parametrize("name", METHODS)
def test_each_method_trains_on_mixed_images_or_is_refused_in_a_line(tmp_path, teacher, name):
    parents = (make_stage(LARGE),)
    model = RESNET
    if name == "simkd":
        joined = "kdsweep.networks.reuse.TeachersHead"
        model = {"_target_": joined, "_recursive_": False, "student": RESNET, "teacher": LARGE}
    stage = make_stage(model, objective(name), parents, augment=MIXED, epochs=1, batch_size=20)
    if name in REFUSED:
        with pytest.raises(ConfigError) as error:
            check_terms(stage, 3, DATASET.shape, {})
        assert str(error.value) == (
            f"method.terms.{name}: needs one label per image, and dataset.augment.mixup mixes them; set "
            "dataset.augment.mixup=0, or take a method that looks at the teacher alone beside the labels' "
            "cross-entropy, such as kd"
        )
        check_terms(make_stage(model, objective(name), parents), 3, DATASET.shape, {})
        return
    check_terms(stage, 3, DATASET.shape, {})
    images = Inputs(DATASET.train, DATASET, CPU).first()
    tapped = Tapped(teacher, all_taps(stage.objective, "teacher"), images)

    def teaching(indices: torch.Tensor, images: torch.Tensor) -> list[Outputs]:
        with torch.no_grad():
            return [tapped(images)]

    head = (lambda: teacher) if TEACHER in model else None
    (metrics,) = train(stage, tmp_path, teaching=teaching, teacher=head).history
    assert 0 <= metrics["train/accuracy"] <= 1 and metrics["train/loss"] > 0


def remembers(student: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """A user's own term."""
    return student.mean() * indices.float().mean()


def counts(student: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """A user's own term."""
    return F.cross_entropy(student, labels)


@soft_labels
def weighs(student: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """A user's own term, which says that it takes probabilities, and does not."""
    return F.nll_loss(student, labels)


@pytest.mark.parametrize(
    ("term", "mixing", "why"),
    [
        (remembers, {"cutmix": 1}, "remembers single images, and dataset.augment.cutmix mixes them; set"),
        (counts, {"mixup": 1}, "needs one label per image, and dataset.augment.mixup mixes them; set"),
        (weighs, {"mixup": 1}, "expected"),
    ],
)
def test_terms_of_ones_own_are_held_to_it(term, mixing, why):
    own = labels_and(0.5, mine={"_target_": f"{__name__}.{term.__name__}"})
    with pytest.raises(ConfigError, match=rf"method\.terms\.mine: .*{why}"):
        check_terms(make_stage(MLP, own, augment=Augment(**mixing)), 3, DATASET.shape, {})
    if term is not weighs:
        check_terms(make_stage(MLP, own), 3, DATASET.shape, {})


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("term", [cross_entropy, binary_cross_entropy])
def test_mixed_labels_are_their_shares_of_both(term, smoothing):
    """Cross-entropies are linear in the labels, smoothed or not."""
    logits, first, second = torch.randn(6, 4), torch.randint(0, 4, (6,)), torch.randint(0, 4, (6,))
    mixed = 0.3 * F.one_hot(first, 4) + 0.7 * F.one_hot(second, 4)
    parts = [term(logits, labels, smoothing=smoothing) for labels in (first, second)]
    torch.testing.assert_close(term(logits, mixed, smoothing=smoothing), 0.3 * parts[0] + 0.7 * parts[1])


def test_nkd_takes_the_class_of_the_larger_share_as_its_authors_code_does():
    example, options = batch(), {"temperature": 1.0, "gamma": 1.5}
    logits = example.student.logits, example.teachers[0].logits
    mixed = 0.6 * F.one_hot(example.labels, 5) + 0.4 * F.one_hot((example.labels + 1) % 5, 5)
    assert torch.equal(nkd(*logits, mixed, **options), nkd(*logits, example.labels, **options))


def test_the_teacher_sees_what_the_student_sees_and_any_epoch_is_made_again_alone(tmp_path, monkeypatch):
    """From the seed of the epoch, without the epochs before it."""
    asked: list[torch.Tensor] = []
    shown: list[torch.Tensor] = []
    forward = Perceptron.forward

    def watch(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
        if network.training:
            shown.append(images.clone())
        return forward(network, images)

    monkeypatch.setattr(Perceptron, "forward", watch)

    def teaching(indices: torch.Tensor, images: torch.Tensor) -> list[Outputs]:
        asked.append(images.clone())
        return [Outputs(torch.zeros(len(images), 3))]

    augment = MIXED.model_copy(update={"resized_crop": (0.3, 1.0), "random_erasing": 0.3})
    stage = make_stage(MLP, kd_objective(), (make_stage(CNN),), augment=augment, epochs=3, keep="last")
    train(stage, tmp_path, teaching=teaching)
    assert len(shown) == 3 * 4 and all(map(torch.equal, asked[-12:], shown))
    inputs = Inputs(DATASET.train, DATASET, CPU)
    for epoch in (3, 2):
        generator = torch.Generator().manual_seed(derive(stage.seed, epoch, "augmentation"))
        for number, indices in enumerate(batches(stage, inputs.labels, len(inputs.labels), epoch)):
            images, labels = inputs.augmented(indices, augment, generator)
            assert torch.equal(images, shown[4 * (epoch - 1) + number])
            torch.testing.assert_close(labels.sum(1), torch.ones(len(indices)))


def test_a_killed_training_on_mixed_images_goes_on_bit_for_bit(tmp_path, monkeypatch):
    monkeypatch.setattr("kdsweep.training.checkpoint.SECONDS_BETWEEN_SAVES", 0)
    stage = make_stage(CNN, augment=MIXED.model_copy(update={"trivial_augment": True}))

    def kill(epoch: int, *event: object) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    whole = train(stage, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(stage, tmp_path / "killed", kill)
    assert_same(whole, train(stage, tmp_path / "killed"))


@pytest.mark.parametrize("mixing", ["mixup", "cutmix"])
def test_planned_stages_of_all_roles_mix(mixing):
    made = planned(f"dataset.augment.{mixing}=0.5")
    assert {stage.data["augment"][mixing] for stage in made.links().values()} == {0.5}
    assert made.chain["teacher"].objective == ALONE
