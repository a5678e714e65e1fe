"""Taught stages that learn from images without labels too."""

from dataclasses import replace

import pytest
import torch
from fitting import CPU, TERMS, assert_same
from helpers import CNN, MLP, kd_objective, labels_and, make_dataset, make_stage
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F
from zoo_examples import METHODS, batch, loss_of, objective, outputs

from kdsweep.data.split import Split
from kdsweep.data.unlabeled import Mix
from kdsweep.errors import ConfigError
from kdsweep.methods import all_taps, needs_labels
from kdsweep.methods.term import Batch, Outputs, labeled_part
from kdsweep.networks.build import build
from kdsweep.networks.taps import Tapped
from kdsweep.stage import Stage
from kdsweep.training import network as networks
from kdsweep.training.batches import batches
from kdsweep.training.fit import fit
from kdsweep.training.member import Fitted
from kdsweep.training.network import Inputs, place
from kdsweep.training.teaching import Teaching
from kdsweep.training.try_terms import check_terms

LABELED, UNLABELED = 12, 40
PLAIN = make_dataset(train=LABELED)
OTHERS = make_dataset(train=UNLABELED).train.images[::-1].copy()
DATASET = replace(
    PLAIN,
    unlabeled=Split(OTHERS, torch.arange(UNLABELED).numpy(), torch.full((UNLABELED,), -1).numpy()),
    unlabeled_fingerprint="others",
)
RESNET = {"_target_": "kdsweep.networks.zoo.resnet.SmallResNet", "depth": 8}
LARGE = {**RESNET, "width": 2}
SAID = torch.randn(LABELED + UNLABELED, 3, generator=torch.Generator().manual_seed(0))
SHARES = [None, 0.5, 0.9, 1]


def teaching(indices: torch.Tensor, inputs: torch.Tensor) -> list[Outputs]:
    return [Outputs(SAID[indices])]


def mixed(stage: Stage, share: float | None = None) -> Stage:
    """The same stage, which learns from images without labels."""
    return replace(stage, data={**stage.data, "unlabeled": {"fingerprint": "others", "share": share}})


def taught(share: float | None = None, **recipe: object) -> Stage:
    return mixed(make_stage(MLP, kd_objective(2.0), (make_stage(),), **recipe), share)


def train(stage: Stage, folder, on_epoch=lambda *event: None, teaching=teaching, teacher=None) -> Fitted:
    return fit(stage, DATASET, Teaching(teaching), CPU, folder, on_epoch, teacher=teacher)


# batches

counts = st.integers(1, 70)


@given(
    counts, counts, st.sampled_from([None, 0.01, 0.3, 0.5, 0.97, 1]), st.integers(2, 40), st.integers(1, 3)
)
def test_an_epoch(labeled, unlabeled, share, size, epoch):
    stage, mix = taught(share, batch_size=size), Mix(labeled, unlabeled, share, size)
    drawn = batches(stage, torch.zeros(labeled), labeled + unlabeled, epoch)
    again = batches(stage, torch.zeros(labeled), labeled + unlabeled, epoch)
    assert all(map(torch.equal, drawn, again)) and len(drawn) == len(again)
    kinds = [torch.tensor([int((each < labeled).sum()), int((each >= labeled).sum())]) for each in drawn]
    for each, (with_labels, _) in zip(drawn, kinds, strict=True):
        assert len(each.unique()) == len(each) <= size
        assert (each[:with_labels] < labeled).all() and (each[with_labels:] >= labeled).all()
        assert len(each) > 1 or len(drawn) == 1
    seen = torch.cat(drawn).bincount(minlength=labeled + unlabeled)
    lone = mix.batches - len(drawn)
    assert lone in (0, 1) and len(torch.cat(drawn)) == mix.images - lone
    if share is None:
        assert seen.max() == 1 and seen.sum() == labeled + unlabeled - lone
        for each, (with_labels, _) in zip(drawn, kinds, strict=True):
            assert abs(with_labels - len(each) * labeled / (labeled + unlabeled)) <= 1
    elif share == 1:
        assert not seen[:labeled].any() and (lone or (seen[labeled:] == 1).all())
    else:
        for part in (seen[:labeled], seen[labeled:]):
            assert part.max() - part.min() <= 1  # pass after pass, the last one perhaps not whole
        assert lone or min(seen[:labeled].min(), seen[labeled:].min()) >= 1
        assert lone or 1 in (int(seen[:labeled].max()), int(seen[labeled:].max()))
        assert all(each.min() > 0 for each in kinds)


def test_every_epoch_has_an_order_of_its_own():
    for share in SHARES:
        first, second = (torch.cat(batches(taught(share), torch.zeros(30), 80, epoch)) for epoch in (1, 2))
        assert not torch.equal(first, second)
        assert not share or not torch.equal(first[first >= 30][:50], first[first >= 30][50:100])


def test_without_such_images_the_order_is_as_ever():
    stage = make_stage(MLP, kd_objective(), (make_stage(),), batch_size=8)
    plain = torch.cat(batches(stage, torch.zeros(30), 30, 1))
    assert torch.equal(plain, torch.cat(batches(stage, torch.zeros(30), 129, 1))) and sorted(
        plain.tolist()
    ) == [*range(30)]


@pytest.mark.parametrize(
    ("share", "size", "passes", "images"),
    [
        (None, 10, (100, 100), 1000),
        (0.5, 10, (20, 180), 1800),  # 5 of each kind: 100 labelled images are seen nine times
        (0.9, 10, (100, 100), 1000),
        (0.1, 10, (12, 900), 8400),  # 9 labelled in a batch would be 11.1 batches: 12, with 8 or 9
        (1, 10, (0, 90), 900),
        (0.999, 10, (100, 100), 1000),  # at least one of each kind
    ],
)
def test_how_often_images_are_seen(share, size, passes, images):
    mix = Mix(100, 900, share, size)
    assert (mix.passes, mix.images) == (passes, images)


def test_images_of_two_splits_in_memory_and_from_the_disk(monkeypatch):
    some = torch.tensor([3, 50, 0, 11, 12, 51])
    inside = Inputs(DATASET.train, DATASET, CPU, DATASET.unlabeled)
    monkeypatch.setattr(networks, "ON_DEVICE", 0)
    outside = Inputs(DATASET.train, DATASET, CPU, DATASET.unlabeled)
    expected = torch.from_numpy(OTHERS[[38, 0, 39]]).float() / 255
    for each in (inside, outside):
        assert each.labels.tolist() == [*PLAIN.train.labels.tolist(), *[-1] * UNLABELED]
        torch.testing.assert_close(each.batch(some)[[1, 4, 5]], expected)
    assert torch.equal(inside.batch(some), outside.batch(some))
    assert torch.equal(inside.batch(some[[0, 2]]), Inputs(PLAIN.train, PLAIN, CPU).batch(some[[0, 2]]))


# terms


@pytest.mark.parametrize("labeled", [0, 1, 2, 4])
@pytest.mark.parametrize("name", METHODS)
def test_terms_that_need_labels_see_the_labelled_images_only(name, labeled):
    """In float64 and without a difference; the others see all."""
    example = batch(7, rows=5)
    with_some = replace(
        example, labels=example.labels.index_fill(0, torch.arange(labeled, 5), -1), labeled=labeled
    )
    for term in objective(name):
        ours, theirs = (loss_of(name, example).terms[term] for _ in range(2))
        for each in (ours, theirs):
            each.begin(3)
        value = ours(with_some, 1)
        if not ours.needs_labels:
            assert torch.equal(value, theirs(example, 1)) and ours.images(with_some) == 5
        elif labeled < (2 if ours.compares else 1):
            assert value == 0 and ours.images(with_some) == 0
        else:
            assert (
                torch.equal(value, theirs(labeled_part(with_some), 1)) and ours.images(with_some) == labeled
            )


def test_the_labelled_part_has_the_first_rows_of_all_there_is():
    generator = torch.Generator().manual_seed(1)
    student, *teachers = (outputs(side, generator, 5) for side in ("student", "teacher", "teacher"))
    whole = Batch(student, teachers, torch.arange(5), torch.arange(5) + 20, labeled=2)
    part = labeled_part(whole)
    assert part.labels.tolist() == [0, 1] and part.indices.tolist() == [20, 21] and part.labeled is None
    for ours, theirs in zip([part.student, *part.teachers], [student, *teachers], strict=True):
        assert torch.equal(ours.logits, theirs.logits[:2]) and ours.head is theirs.head
        assert ours.taps.keys() == theirs.taps.keys()
        for tap, values in ours.taps.items():
            assert all(torch.equal(one, two[:2]) for one, two in zip(values, theirs.taps[tap], strict=True))
    assert labeled_part(replace(whole, labeled=None)).indices is whole.indices


def test_a_batch_without_labels_teaches_nothing_by_labels_and_does_no_harm():
    example = replace(batch(2), labeled=0)
    logits = example.student.logits.requires_grad_()
    loss = loss_of("dkd", example)(example, epoch=50, epochs=100)["loss"]
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss == 0 and not gradient.any()


# trainings


@pytest.mark.parametrize(("share", "size"), [(None, 8), (None, 4), (None, 64), (0.5, 8), (0.9, 16)])
def test_figures_are_means_over_the_images_that_they_are_of(tmp_path, share, size):
    """With a rate of 0 the network stays as it is, so that float64 can tell the figures."""
    stage = taught(share, batch_size=size, epochs=2, learning_rate=0.0)
    fitted = train(stage, tmp_path)
    network = build(MLP, 3, DATASET.shape)
    network.load_state_dict(fitted.weights)
    inputs = Inputs(DATASET.train, DATASET, CPU, DATASET.unlabeled)
    for epoch, metrics in enumerate(fitted.history, start=1):
        # in batches of a share some images are seen once more than others
        seen = torch.cat(batches(stage, torch.zeros(LABELED), LABELED + UNLABELED, epoch))
        with torch.no_grad():
            logits = network(inputs.batch(seen)).double()
        known = seen < LABELED
        labels = inputs.labels[seen][known]
        losses = F.cross_entropy(logits[known], labels, reduction="none")
        soft = (SAID[seen].double() / 2).log_softmax(1)
        divergences = 4 * (soft.exp() * (soft - (logits / 2).log_softmax(1))).sum(1)
        right = (logits[known].argmax(1) == labels).double()
        assert metrics["train/accuracy"] == pytest.approx(right.mean().item(), abs=1e-6)
        assert metrics["train/loss_labels"] == pytest.approx(losses.mean().item(), rel=1e-4)
        assert metrics["train/loss_kd"] == pytest.approx(divergences.mean().item(), rel=1e-4)
        sums = 0.5 * metrics["train/loss_labels"] + 0.5 * metrics["train/loss_kd"]
        assert metrics["train/loss"] == pytest.approx(sums, rel=1e-9)


@pytest.fixture
def teacher(monkeypatch) -> torch.nn.Module:
    monkeypatch.setattr("kdsweep.training.checkpoint.SECONDS_BETWEEN_SAVES", 0)
    torch.manual_seed(1)
    return place(build(LARGE, 3, DATASET.shape), CPU).eval().requires_grad_(False)


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "share"),
    [*((name, None) for name in METHODS), *((name, 0.5) for name in ("kd", "crd", "nd", "dkd"))],
)
def test_every_method_trains_with_them_and_resumes_with_the_same_bits(tmp_path, teacher, name, share):
    stage = mixed(make_stage(RESNET, objective(name), (make_stage(LARGE),), epochs=2, batch_size=10), share)
    images = Inputs(DATASET.train, DATASET, CPU).first()
    tapped = Tapped(teacher, all_taps(stage.objective, "teacher"), images)

    def ask(indices: torch.Tensor, images: torch.Tensor) -> list[Outputs]:
        with torch.no_grad():
            return [tapped(images)]

    def kill(epoch: int, *event: object) -> None:
        if epoch == 1:
            raise KeyboardInterrupt

    whole = train(stage, tmp_path / "whole", teaching=ask)
    with pytest.raises(KeyboardInterrupt):
        train(stage, tmp_path / "killed", kill, ask)
    assert_same(whole, train(stage, tmp_path / "killed", teaching=ask))
    assert {"train/loss", "train/accuracy"} <= whole.history[0].keys()


def test_alone_they_teach_by_terms_that_need_no_label(tmp_path):
    """The labelled images then change no bit of the student, but choose its epoch."""
    stage = mixed(make_stage(MLP, kd_objective(alpha=0), (make_stage(),), epochs=3, keep="last"), 1)
    fitted = train(stage, tmp_path / "one")
    assert "train/accuracy" not in fitted.history[0] and "val/accuracy" in fitted.history[0]
    other = replace(DATASET, train=PLAIN.train.take(torch.arange(LABELED).flip(0).numpy()))
    again = fit(stage, other, Teaching(teaching), CPU, tmp_path / "two", lambda *event: None)
    assert all(torch.equal(fitted.weights[name], again.weights[name]) for name in fitted.weights)


def test_they_change_the_student(tmp_path):
    plain = train(make_stage(MLP, kd_objective(2.0), (make_stage(),)), tmp_path / "plain")
    ours = train(taught(), tmp_path / "mixed")
    assert any(not torch.equal(plain.weights[name], ours.weights[name]) for name in plain.weights)


class Noted(torch.nn.Module):
    """A term that keeps what it was made for and given, and needs labels."""

    seen: list[tuple[int, ...]]
    made: tuple[list[int], int]

    def __init__(self, student, train_labels, teacher_outputs):
        super().__init__()
        Noted.seen = []
        Noted.made = train_labels.tolist(), sum(len(labels) for _, labels in teacher_outputs)

    def forward(self, student, teacher, labels, indices):
        assert labels.min() >= 0 and len(student) == len(teacher) == len(labels) == len(indices)
        assert [PLAIN.train.labels[index] for index in indices.tolist()] == labels.tolist()
        Noted.seen += indices.tolist()
        return student.square().mean()


def test_modules_are_made_for_the_labelled_images_and_given_them(tmp_path):
    terms = labels_and(0.5, kd=TERMS["kd"], noted={"_target_": f"{__name__}.Noted"})
    train(mixed(make_stage(MLP, terms, (make_stage(),), epochs=1)), tmp_path)
    assert Noted.made == (PLAIN.train.labels.tolist(), LABELED)
    assert sorted(Noted.seen) == [*range(LABELED)]


def test_a_term_that_compares_labelled_images_needs_two_in_a_batch():
    terms = labels_and(0.5, kd=TERMS["kd"], crd=TERMS["crd"])
    stage = mixed(make_stage(CNN, terms, (make_stage(CNN),)))
    check_terms(stage, 3, DATASET.shape, {}, labeled=2.0)
    with pytest.raises(ConfigError, match=r"crd: compares the labelled images of a batch.* has 0\.5 of them"):
        check_terms(stage, 3, DATASET.shape, {}, labeled=0.5)
    check_terms(replace(stage, objective=labels_and(0.5, kd=TERMS["kd"])), 3, DATASET.shape, {}, labeled=0.5)


@pytest.mark.parametrize(
    ("taken", "needed"), [({"labels"}, True), ({"indices"}, True), ({"student", "epoch"}, False)]
)
def test_what_needs_labels(taken, needed):
    assert needs_labels(taken) is needed
