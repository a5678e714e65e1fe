"""What a recipe changes of a step and of an epoch's images: clipped gradients, balanced draws."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fitting import CPU, TERMS, assert_same, teaching, train
from helpers import MLP, labels_and, make_dataset, make_stage, optimizer
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from kdsweep.training.batches import batches
from kdsweep.training.fit import fit
from kdsweep.training.teaching import Teaching

SGD = optimizer("SGD")


@pytest.mark.parametrize("largest", [0.1, 1e9])
def test_the_gradients_of_a_step_have_no_larger_norm_adapters_included(tmp_path, monkeypatch, largest):
    """What reaches the optimizer; crd has projections of its own."""
    norms: list[float] = []
    step = torch.optim.SGD.step

    def watch(self, *given):
        learned = [each for group in self.param_groups for each in group["params"]]
        norms.append(torch.cat([each.grad.flatten() for each in learned]).norm().item())
        return step(self, *given)

    monkeypatch.setattr(torch.optim.SGD, "step", watch)
    objective = labels_and(0.5, crd=TERMS["crd"])
    stage = make_stage(MLP, objective, (make_stage(),), optimizer=SGD, epochs=1, clip_norm=largest)
    train(stage, tmp_path, teaching=teaching)
    assert len(norms) == 4 and max(norms) > 0
    if largest == 0.1:
        assert norms == pytest.approx([0.1] * 4, rel=1e-4)


def test_a_bound_that_no_gradient_meets_changes_no_bit(tmp_path):
    plain, bound = (train(make_stage(clip_norm=each), tmp_path / str(each)) for each in (None, 1e9))
    assert_same(plain, bound)
    assert make_stage(clip_norm=1e9).key != make_stage().key


def labels_of(*counts: int) -> torch.Tensor:
    return torch.cat([torch.full((count,), number) for number, count in enumerate(counts)])


@given(st.lists(st.integers(1, 40), min_size=2, max_size=5), st.integers(0, 99), st.integers(1, 9))
def test_a_balanced_epoch_is_as_long_and_made_again_alone(counts, seed, epoch):
    labels, stage = labels_of(*counts), make_stage(seed=seed, sampling="balanced", batch_size=8)
    drawn = torch.cat(batches(stage, labels, len(labels), epoch))
    assert len(labels) - 1 <= len(drawn) <= len(labels), "without a last batch of one"
    assert drawn.min() >= 0 and drawn.max() < len(labels)
    assert torch.equal(drawn, torch.cat(batches(stage, labels, len(labels), epoch)))


def test_balanced_classes_are_equally_probable_and_their_images_too():
    labels = labels_of(900, 90, 10)
    stage = make_stage(sampling="balanced")
    drawn = torch.cat([torch.cat(batches(stage, labels, len(labels), epoch)) for epoch in range(1, 31)])
    of_class = labels[drawn].bincount().numpy()
    assert stats.chisquare(of_class).pvalue > 1e-3
    rare = drawn[labels[drawn] == 2].bincount(minlength=1000)[990:].numpy()
    assert stats.chisquare(rare).pvalue > 1e-3
    epochs = [torch.cat(batches(stage, labels, len(labels), epoch)) for epoch in (1, 2)]
    assert not torch.equal(*epochs)


def test_classes_that_the_split_lacks_are_no_trouble():
    labels = torch.tensor([0, 0, 0, 3, 3, 0])
    stage = make_stage(sampling="balanced")
    drawn = torch.cat([torch.cat(batches(stage, labels, len(labels), epoch)) for epoch in range(1, 200)])
    assert labels[drawn].bincount()[[0, 3]].numpy() == pytest.approx(len(drawn) / 2, rel=0.1)


def skewed():
    """Of the third class only two training images."""
    made = make_dataset(train=150)
    labels = made.train.labels
    kept = np.concatenate([np.flatnonzero(labels < 2), np.flatnonzero(labels == 2)[:2]])
    return replace(made, train=made.train.take(kept))


def test_a_rare_class_is_learned_by_balanced_draws(tmp_path):
    losses = {}
    for sampling in ("shuffled", "balanced"):
        stage = make_stage(MLP, sampling=sampling, epochs=4, learning_rate=0.001, keep="last")
        fitted = fit(stage, skewed(), Teaching(), CPU, tmp_path / sampling, lambda *event: None)
        losses[sampling] = fitted.history[-1]["val/cross_entropy"]
    assert losses["balanced"] < losses["shuffled"]
