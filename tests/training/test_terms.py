"""Stages that learn by the terms of methods: resumed, with warm-up, with adapters that are thrown away."""

from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from fitting import CPU, DATASET, TERMS, assert_same, teaching, train
from helpers import CNN, MLP, labels_and, make_stage, setting_of
from torch import nn

from kdsweep.errors import ConfigError
from kdsweep.methods.loss import Loss
from kdsweep.methods.schedule import scheduled_weight
from kdsweep.methods.term import Batch, Outputs
from kdsweep.stages.chains import ALONE
from kdsweep.training.fit import fit
from kdsweep.training.teaching import Teaching

STAGES = {
    name: make_stage(CNN, labels_and(0.5, **{name: term}), (make_stage(),), epochs=5)
    for name, term in TERMS.items()
}


@pytest.mark.parametrize("name", STAGES)
def test_a_resumed_training_is_the_same_bit_for_bit(tmp_path, monkeypatch, name):
    """With adapters, memories, negatives and the optimizer's state of the adapters."""
    monkeypatch.setattr("kdsweep.training.checkpoint.SECONDS_BETWEEN_SAVES", 0)
    whole = train(STAGES[name], tmp_path / "whole", teaching=teaching)

    def kill(epoch: int, metrics: object, seconds: float) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(STAGES[name], tmp_path / "resumed", kill, teaching)
    seen: list[int] = []
    resumed = train(STAGES[name], tmp_path / "resumed", lambda epoch, *rest: seen.append(epoch), teaching)
    assert seen == [3, 4, 5]
    assert_same(whole, resumed)


@pytest.mark.parametrize("name", STAGES)
def test_terms_are_reported_and_their_adapters_are_not_in_the_weights(tmp_path, name):
    fitted = train(STAGES[name], tmp_path, teaching=teaching)
    alone = train(make_stage(CNN, epochs=5), tmp_path / "alone")
    assert fitted.weights.keys() == alone.weights.keys()
    for metrics in fitted.history:
        assert {"train/loss", "train/loss_labels", f"train/loss_{name}"} <= metrics.keys()
        if name != "dkd":
            sums = 0.5 * metrics["train/loss_labels"] + 0.5 * metrics[f"train/loss_{name}"]
            assert metrics["train/loss"] == pytest.approx(sums, rel=1e-5)


def test_adapters_learn(tmp_path):
    """By the same weights, what the regressor makes of the map comes nearer to the teacher's."""
    history = train(replace(STAGES["fitnet"], objective=labels_and(0.0, fitnet=TERMS["fitnet"])),
                    tmp_path, teaching=teaching).history  # fmt: skip
    assert history[-1]["train/loss_fitnet"] < 0.97 * history[0]["train/loss_fitnet"]


def test_a_terms_weight_follows_its_schedule(tmp_path):
    """warmup 0.5 of 5 epochs: 2.5 epochs."""
    history = train(STAGES["dkd"], tmp_path, teaching=teaching).history
    weights = [
        (metrics["train/loss"] - 0.5 * metrics["train/loss_labels"]) / metrics["train/loss_dkd"]
        for metrics in history
    ]
    assert weights == pytest.approx([0.2, 0.4, 0.5, 0.5, 0.5], rel=1e-4)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ({}, [2, 2, 2, 2]),
        ({"warmup": 2}, [1, 2, 2, 2]),
        ({"warmup": 0.5}, [1, 2, 2, 2]),
        ({"warmup": 20}, [0.1, 0.2, 0.3, 0.4]),
        ({"decay": 2}, [2, 2, 1.5, 0.5]),
        ({"decay": 0.5, "warmup": 4}, [0.5, 1, 1.125, 0.5]),
    ],
)
def test_schedules(schedule, expected):
    weights = [scheduled_weight({"weight": 2.0, **schedule}, epoch, 4) for epoch in (1, 2, 3, 4)]
    assert weights == pytest.approx(expected)


class Noted(nn.Module):
    """A term that keeps what it was given."""

    given: ClassVar[list[dict]] = []

    def __init__(self, student, teacher, num_classes, train_labels, *, factor: float = 1.0):
        super().__init__()
        Noted.given.append({"shapes": (student, teacher), "classes": num_classes, "labels": train_labels})
        self.scale = nn.Parameter(torch.tensor(factor))

    def forward(self, student, teacher, labels, indices, epoch, generator):
        drawn = torch.rand(1, generator=generator)
        Noted.given.append({"epoch": epoch, "indices": indices, "labels": labels, "drawn": drawn.item()})
        return self.scale * (student[0].mean() - teacher[0].mean() - drawn[0]).square()


def test_a_term_is_given_what_it_names(tmp_path):
    Noted.given.clear()
    taps = {"student": ["stage1", "embedding"], "teacher": ["embedding"]}
    term = {"_target_": f"{__name__}.Noted", "taps": taps}
    stage = make_stage(CNN, labels_and(0.5, noted=term), (make_stage(),), epochs=2, batch_size=40)
    train(stage, tmp_path, teaching=teaching)
    made, *steps = Noted.given
    assert made["shapes"] == (((2, 32, 8, 8), (2, 128)), ((2, 16),))
    assert (made["classes"], made["labels"].tolist()) == (3, DATASET.train.labels.tolist())
    assert [step["epoch"] for step in steps] == [1, 1, 2, 2]
    assert sorted(torch.cat([step["indices"] for step in steps[:2]]).tolist()) == list(range(60))
    assert all(DATASET.train.labels[step["indices"]].tolist() == step["labels"].tolist() for step in steps)
    assert len({step["drawn"] for step in steps}) == 4


@pytest.mark.parametrize("name", TERMS)
def test_the_loss_of_several_teachers_is_the_mean_of_theirs(name):
    generator = torch.Generator().manual_seed(0)
    labels, indices = torch.tensor([0, 1, 2, 0]), torch.arange(4)

    def said() -> Outputs:
        logits = torch.randn(4, 3, generator=generator)
        taps = {"embedding": (torch.randn(4, 6, generator=generator),),
                "stage2": (torch.randn(4, 5, 4, 4, generator=generator),)}  # fmt: skip
        return Outputs(logits, taps)

    student, teachers = said(), [said(), said()]

    def loss(heard: list[Outputs]) -> Loss:
        batch = Batch(student, heard, labels, indices)
        return Loss({name: {"weight": 1.0, **TERMS[name]}}, setting_of(batch, 3), seed=0)

    both = loss(teachers)
    together = both(Batch(student, teachers, labels, indices))[name]
    alone = []
    for number, teacher in enumerate(teachers):
        one = loss([teacher])
        if one.state_dict():
            fresh = loss(teachers).terms[name].adapters[number]  # each teacher has adapters of its own
            one.terms[name].adapters[0].load_state_dict(fresh.state_dict())
        one.terms[name].generator.set_state(loss(teachers).terms[name].generator.get_state())
        alone.append(one(Batch(student, [teacher], labels, indices))[name])
    if name != "crd":  # whose negatives are drawn for one teacher after the other
        torch.testing.assert_close(together, sum(alone) / 2)
    assert together.isfinite()
    assert len(both.terms[name].adapters) == (2 if name in ("fitnet", "crd") else 0)


def test_the_order_of_the_terms_changes_no_bit(tmp_path):
    terms = labels_and(0.3, kd=TERMS["kd"], fitnet=TERMS["fitnet"])
    one, other = (
        make_stage(CNN, objective, (make_stage(),)) for objective in (terms, dict(reversed(terms.items())))
    )
    assert one.key == other.key
    assert_same(*(train(stage, tmp_path / str(n), teaching=teaching) for n, stage in enumerate((one, other))))


@pytest.mark.parametrize(
    ("term", "message"),
    [
        ({"_target_": "kdsweep.methods.logits.kd.kdd"}, "has no attribute 'kdd'"),
        ({"_target_": "nowhere.kd"}, "No module named 'nowhere'"),
        ({**TERMS["crd"], "negative": 3}, "unexpected keyword argument 'negative'"),
        ({**TERMS["fitnet"], "taps": "stage9"}, "has no tap stage9; it has embedding, map, stage1, stage2"),
        ({**TERMS["fitnet"], "taps": "embedding"}, "needs a map, such as"),
    ],
)
def test_terms_that_do_not_fit_are_refused(tmp_path, term, message):
    stage = make_stage(CNN, labels_and(0.5, wrong=term), (make_stage(),))
    with pytest.raises(ConfigError, match=message):
        fit(stage, DATASET, Teaching(teaching), CPU, tmp_path, lambda *event: None)


def test_the_student_alone_has_a_term_for_its_labels(tmp_path):
    history = train(make_stage(MLP), tmp_path).history
    assert list(ALONE) == ["labels"]
    assert all(metrics["train/loss"] == metrics["train/loss_labels"] for metrics in history)
