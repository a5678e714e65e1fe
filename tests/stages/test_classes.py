"""Weights of other classes of the same number are no head for these."""

import pytest
import torch
from helpers import MLP, composed
from safetensors.torch import load_file, save_file

from kdsweep.config.parse import parse
from kdsweep.errors import ConfigError
from kdsweep.networks.build import build, build_initial
from kdsweep.networks.weights import WEIGHTS
from kdsweep.stages.classes import for_classes, metadata
from kdsweep.stages.maker import Maker
from kdsweep.stages.prepare import prepare
from kdsweep.store.store import Store

SHAPE = (1, 8, 8)
PETS = ("cat", "dog", "hen")


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def file(tmp_path):
    """Weights of a network for three pets."""
    file = tmp_path / "pets.safetensors"
    save_file({name: torch.full_like(each, 3.0) for name, each in build(MLP, 3, SHAPE).state_dict().items()},
              file, metadata(PETS))  # fmt: skip
    return file


def test_weights_of_the_same_classes_are_taken_as_they_are(file, store, tmp_path):
    assert for_classes("w", file, MLP, PETS, SHAPE, store) == file
    assert for_classes("w", file, MLP, ("a", "b"), SHAPE, store) == file, "the shape shows another number"
    for name, unknown in (("plain.safetensors", {}), ("other.safetensors", {"classes": "no JSON"})):
        save_file(load_file(file), tmp_path / name, unknown)
        assert for_classes("w", tmp_path / name, MLP, ("a", "b", "c"), SHAPE, store) == tmp_path / name
    torch.save(load_file(file), tmp_path / "weights.pt")
    assert for_classes("w", tmp_path / "weights.pt", MLP, ("a", "b", "c"), SHAPE, store).suffix == ".pt"


def test_another_order_is_refused_with_the_one_that_fits(file, store):
    with pytest.raises(
        ConfigError, match=r'weights=w: .*another order; .*dataset.classes=\["cat","dog","hen"\]'
    ):
        for_classes("w", file, MLP, ("dog", "cat", "hen"), SHAPE, store)


def test_other_classes_get_a_head_of_their_own(file, store, caplog):
    given = for_classes("w", file, MLP, ("ant", "bee", "cat"), SHAPE, store)
    assert "trained for other classes (cat, dog, hen) than these (ant, bee, cat); the head" in caplog.text
    assert given == for_classes("w", file, MLP, ("ant", "bee", "cat"), SHAPE, store) != file
    begun = build_initial(MLP, 3, SHAPE, given).state_dict()
    *body, weight, bias = begun.values()
    assert all((each == 3).all() for each in body) and not (weight == 3).any() and not (bias == 3).any()
    with pytest.raises(ConfigError, match="a network that is not trained needs all weights, also its head's"):
        build_initial(MLP, 3, SHAPE, given, trained=False)


def test_a_trained_stage_says_its_classes_to_who_begins_with_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny = ("method=scratch", "training.epochs=1", "student.model.hidden=[8]", "dataset.train_limit=60",
            "baseline=false", "hardware=cpu")  # fmt: skip
    job = prepare(parse(composed(*tiny)))
    maker = Maker(job.store, job.dataset, job.config.hardware, {}, lambda event: None)
    (stage,) = job.plan.links().values()
    maker.train({"student": stage})
    again = prepare(parse(composed(*tiny, f"student.weights=stage:{stage.key}")))
    assert set(again.initial.values()) == {job.store.root / stage.key / WEIGHTS}
    # fashion's classes are ten as well
    weights = str(job.store.root / stage.key / WEIGHTS)
    other = for_classes("w", job.store.root / stage.key / WEIGHTS, stage.model,
                        tuple("abcdefghij"), (1, 8, 8), job.store)  # fmt: skip
    assert str(other) != weights and len(load_file(other)) == len(load_file(weights)) - 2
