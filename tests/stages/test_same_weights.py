"""Recipes that train alike are one key, and what is one key does train alike, bit for bit."""

import itertools
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fitting import TERMS, teaching
from helpers import (
    CNN,
    MLP,
    NO_AUGMENT,
    TINY,
    Command,
    composed,
    labels_and,
    literal,
    make_dataset,
    make_stage,
    optimizer,
    schedule,
)
from planning import KNOWN, keys
from safetensors.torch import save_file

from kdsweep.config import Augment, FineTuning, Hardware
from kdsweep.config.code import default_options
from kdsweep.config.parse import parse
from kdsweep.data.dataset import load
from kdsweep.errors import ConfigError
from kdsweep.stage import Stage
from kdsweep.stages.chains import ALONE, plan
from kdsweep.stages.estimate import Need
from kdsweep.stages.show_plan import Planned, _of
from kdsweep.store.store import Store
from kdsweep.training.device import resolve
from kdsweep.training.fit import fit
from kdsweep.training.member import Fitted
from kdsweep.training.teaching import Teaching

DATASET = make_dataset()
CPU = torch.device("cpu")
MOVING = Augment(crop_padding=1, horizontal_flip=True)
NONE = FineTuning(epochs=0, learning_rate=1e-5, trainable="all")
SECOND = FineTuning(epochs=4, learning_rate=0.01, trainable=2)


pytestmark = pytest.mark.usefixtures("one_thread")


def train(stage: Stage, folder: Path, initial: Path | None = None) -> Fitted:
    return fit(stage, DATASET, Teaching(teaching), CPU, folder, lambda *event: None, initial)


def assert_same_weights(first: Fitted, second: Fitted) -> None:
    assert first.weights.keys() == second.weights.keys()
    assert all(torch.equal(first.weights[name], second.weights[name]) for name in first.weights)


# what a recipe says in two ways: changes of RECIPE
RECIPES = {
    "patience as long as the training": ({"patience": 4}, {}),
    "patience that the last epoch would end": ({"patience": 3}, {}),
    "patience of a second phase": (
        {"epochs": 2, "fine_tuning": SECOND, "patience": 4},
        {"epochs": 2, "fine_tuning": SECOND},
    ),
    "the best of one epoch": (
        {"epochs": 1, "keep": "best", "monitor": "val/cross_entropy"},
        {"epochs": 1, "keep": "last"},
    ),
    "monitor without use": ({"keep": "last", "monitor": "val/cross_entropy"}, {"keep": "last"}),
    "a second phase alone": (
        {"epochs": 0, "learning_rate": 1.0, "trainable": "head", "fine_tuning": SECOND},
        {"epochs": 4, "learning_rate": 0.01, "trainable": 2, "fine_tuning": NONE},
    ),
    "a second phase of no epochs": (
        {"fine_tuning": FineTuning(epochs=0, learning_rate=1.0, trainable="head")},
        {"fine_tuning": NONE},
    ),
}


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_that_train_alike(tmp_path, name):
    one, other = (make_stage(CNN, **changes) for changes in RECIPES[name])
    assert one.key == other.key and one.training != other.training
    first, second = train(one, tmp_path / "a"), train(other, tmp_path / "b")
    assert_same_weights(first, second)
    assert (first.history, first.best_epoch) == (second.history, second.best_epoch)


def test_without_validation_the_seed_of_its_split_plays_no_part(tmp_path):
    weights = []
    for seed in (0, 3):
        overrides = ("dataset.val_fraction=0", f"dataset.split_seed={seed}", "dataset.train_limit=60")
        digits = load(parse(composed(*overrides)).dataset, Store(tmp_path / "store"))
        stage = make_stage(MLP, keep="last")
        fitted = fit(stage, digits, Teaching(), CPU, tmp_path / str(seed), lambda *event: None)
        weights.append((keys(*overrides), fitted))
    assert weights[0][0] == weights[1][0]
    assert_same_weights(weights[0][1], weights[1][1])


APART = {
    "adam and adamw": (
        {"optimizer": optimizer("AdamW", weight_decay=0.01)},
        {"optimizer": optimizer("Adam", weight_decay=0.01)},
    ),
    "patience before the last epoch": ({"patience": 2}, {}),
    "patience of a longer second phase": (
        {"epochs": 2, "fine_tuning": SECOND, "patience": 3},
        {"epochs": 2, "fine_tuning": SECOND},
    ),
    "an option of the optimizer": ({"optimizer": optimizer("Adam", eps=1e-7)}, {}),
    "an option of the schedule": (
        {"schedule": schedule("MultiStepLR", milestones=[3])},
        {"schedule": schedule("MultiStepLR", milestones=[2])},
    ),
    "monitor of early stopping": (
        {"keep": "last", "patience": 1},
        {"keep": "last", "patience": 1, "monitor": "val/cross_entropy"},
    ),
    "bfloat16": ({"mixed_precision": True}, {}),
    "a moving average": ({"ema": 0.9}, {}),
    "its decay": ({"ema": 0.9}, {"ema": 0.99}),
    "clipped gradients": ({"clip_norm": 1.0}, {}),
    "balanced draws": ({"sampling": "balanced"}, {}),
}


@pytest.mark.parametrize("name", APART)
def test_recipes_that_may_not(name):
    one, other = (make_stage(**changes) for changes in APART[name])
    assert one.key != other.key


def test_bfloat16_is_what_its_key_says(tmp_path):
    one, other = (train(make_stage(mixed_precision=mixed), tmp_path / str(mixed)) for mixed in (True, False))
    assert not torch.equal(one.weights["hidden1.weight"], other.weights["hidden1.weight"])


@pytest.mark.parametrize("augment", [NO_AUGMENT, MOVING], ids=["still", "augmented"])
@pytest.mark.parametrize("name", TERMS)
def test_a_term_without_weight_changes_no_bit(tmp_path, name, augment):
    """Adapters, memories and what a term draws have generators of their own."""
    alone = make_stage(CNN, augment=augment)
    unheard = replace(alone, objective=labels_and(1.0, **{name: TERMS[name]}), parents=(make_stage(),))
    assert unheard.objective[name]["weight"] == 0
    first = train(unheard, tmp_path / "unheard")
    assert_same_weights(first, train(alone, tmp_path / "alone"))


def test_a_batch_of_all_images_is_no_larger(tmp_path):
    one, other = (train(make_stage(CNN, batch_size=size), tmp_path / str(size)) for size in (60, 1000))
    assert_same_weights(one, other)
    assert one.history == other.history


def test_the_seed_of_what_is_not_trained_makes_no_difference(tmp_path):
    given = train(make_stage(), tmp_path / "given").weights
    save_file(given, tmp_path / "given.safetensors")
    for seed in (0, 1):
        stage = make_stage(seed=seed, epochs=0)
        kept = train(stage, tmp_path / str(seed), initial=tmp_path / "given.safetensors")
        assert_same_weights(kept, Fitted(given, [], 0, 0))


LISTED = f"student.assistants={literal([{'name': 'n9', 'model': {**MLP, 'hidden': [9]}}])}"


def test_a_student_that_alpha_1_teaches_is_the_student_alone():
    for overrides in itertools.product(
        ("method=kd", "method=logit_mse", "method=ban", "method=dgkd"),
        ("temperature=1", "temperature=64"),
    ):
        found = keys("alpha=1", *overrides)
        if overrides[0] != "method=ban":
            assert found["student"] == found["scratch"]
    assert keys("alpha=1")["student"] == keys("method=scratch")["student"]
    assert keys("alpha=0.999")["student"] != keys("alpha=0.999")["scratch"]


def test_the_teacher_of_alpha_1_stays_in_the_chain_to_be_compared_with():
    made = plan(parse(composed("alpha=1")), "content", KNOWN)
    assert list(made.links()) == ["teacher", "scratch", "student"]
    assert list(made.teachers["student"].members) == ["teacher"]


def test_an_assistants_own_alpha_of_1_leaves_its_student_taught():
    listed = LISTED.replace("name:n9", "name:n9,alpha:1.0")
    made = plan(parse(composed("method=takd", "chain_length=2", listed)), "content", KNOWN)
    assistant, student = made.chain["assistant1"], made.chain["student"]
    assert (assistant.objective, assistant.parents) == (ALONE, ())
    assert (set(student.objective), student.parents) == ({"labels", "kd"}, (assistant,))


def test_generations_with_alpha_1_are_students_alone_of_their_own_seeds():
    made = plan(parse(composed("method=ban", "chain_length=3", "alpha=1")), "content", KNOWN)
    teacher, *generations = made.chain.values()
    assert all(stage.parents == () for stage in generations)
    assert len({stage.key for stage in generations}) == 3, "each begins from other weights"
    assert list(made.ensemble.members) == ["teacher", "generation1", "generation2", "student"]
    taught_by = [list(made.teachers[role].members.values()) for role in ("generation1", "student")]
    assert taught_by == [[teacher], [generations[1]]]


MOVED = ("dataset.augment.crop_padding=1",)
STILL = ("training.epochs=0", "student.weights=file", "teacher.training.epochs=5")
SAME = {
    "a warm-up of no epochs": ((), ("+method.terms.kd.warmup=0",)),
    "an option at its default": ((), ("~method.terms.kd.scale_by_temperature_squared",)),
    "train_limit": (("dataset.train_limit=1000",), ("dataset.train_limit=null",)),
    "a larger train_limit": (("dataset.train_limit=5000",), ("dataset.train_limit=1000",)),
    "batch_size": (("training.batch_size=800",), ("training.batch_size=5000",)),
    "operations that are none, of whatever magnitude": (
        ("dataset.augment.rand_augment.magnitude=3",),
        ("dataset.augment.trivial_augment=false",),
    ),
    "a crop of everything": (("dataset.augment.resized_crop=[1,1]",), ()),
    "a teacher of labels that are not smoothed": (("teacher.label_smoothing=0.0",), ()),
    "a teacher that is not trained, and smoothed labels": (
        ("teacher.weights=file", "teacher.training.epochs=0", "teacher.label_smoothing=0.1"),
        ("teacher.weights=file", "teacher.training.epochs=0"),
    ),
    "no training, and how it would step and draw": (
        (*STILL, "training.ema=0.9", "training.clip_norm=1", "training.sampling=balanced"),
        (*STILL, *(f"teacher.training.{each}" for each in ("ema=0.9", "clip_norm=1", "sampling=balanced"))),
    ),
    "rounded answers, to images that do not change": (("training.answers=float16",), ()),
    "rounded answers, where nobody is taught by them": (
        (*MOVED, "alpha=1", "training.answers=float16", "teacher.training.answers=float16"),
        (*MOVED, "alpha=1"),
    ),
    "rounded answers, where terms look at maps": (
        (*MOVED, "method=at", "training.answers=float16"),
        (*MOVED, "method=at"),
    ),
    "mixed_precision without a GPU": (
        ("training.mixed_precision=true",),
        ("training.mixed_precision=false",),
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_configs_that_train_alike_are_one_key(name):
    one, other = SAME[name]
    assert keys(*one) == keys(*other)


def test_configs_that_do_not_are_not():
    assert keys("dataset.train_limit=999") != keys()
    assert keys("training.batch_size=799") != keys("training.batch_size=800")
    assert keys("temperature=2") != keys(
        "temperature=2", "method.terms.kd.scale_by_temperature_squared=false"
    )


def test_options_that_came_later_are_in_a_key_only_where_they_play_a_part():
    """Networks that were trained before there were these are found."""
    later = {"resized_crop", "rand_augment", "trivial_augment", "random_erasing", "mixup", "cutmix"}
    later |= {"ema", "clip_norm", "sampling", "answers"}
    for stage in plan(parse(composed()), "content", KNOWN).links().values():
        assert not later & {*stage.data["augment"], *stage.describe()["training"]}
    for each in (
        "dataset.augment.resized_crop=[0.2,1]",
        "dataset.augment.rand_augment.num_ops=1",
        "dataset.augment.trivial_augment=true",
        "dataset.augment.random_erasing=0.1",
        "dataset.augment.mixup=0.2",
        "dataset.augment.cutmix=0.2",
    ):
        assert not set(keys(each).values()) & set(keys().values())


def test_smoothed_labels_of_a_teacher_change_it_and_whom_it_teaches_alone():
    plain, smoothed = keys(), keys("teacher.label_smoothing=0.1")
    assert {role for role in plain if plain[role] != smoothed[role]} == {"teacher", "student"}
    made = plan(parse(composed("teacher.label_smoothing=0.1")), "content", KNOWN)
    assert made.chain["teacher"].objective["labels"]["smoothing"] == 0.1
    assert made.chain["student"].objective["labels"]["smoothing"] == 0


def test_given_weights_are_one_network_for_all_seeds_and_teachers():
    given = ("teacher.weights=file", "teacher.training.epochs=0")
    found = [keys(*given, "dataset.augment.rotation=10"), keys(*given, "seed=1")]
    assert found[0]["teacher"] == found[1]["teacher"]
    assert found[0]["student"] != found[1]["student"]
    assert keys(*given)["teacher"] != keys("teacher.weights=other", given[1])["teacher"]


def test_bfloat16_of_a_gpu_is_in_the_key():
    gpu = replace(KNOWN, on_gpu=lambda: True)
    assert not set(keys(known=gpu).values()) & set(keys().values())
    still = "training.mixed_precision=false"
    assert keys(still, known=gpu) == keys(still) == keys(), "float32 is float32 anywhere"
    asked = replace(KNOWN, on_gpu=lambda: pytest.fail("asked for"))
    assert keys(still, known=asked) == keys(still)


@pytest.mark.parametrize(
    ("overrides", "device"),
    [
        (("hardware=auto",), None),
        (("hardware=cpu",), "cpu"),
        (("hardware=cpu_parallel",), "cpu"),
        (("hardware=gpu",), "cuda"),
        (("hardware=auto", "hardware.device=cuda:1"), "cuda"),
        (("hardware=gpus",), "cuda"),
        (("hardware=ray",), "cuda"),
        (("hardware=ray", "hardware.device=auto", "hardware.gpus_per_job=0.5"), "cuda"),
        (("hardware=ray", "hardware.device=auto", "hardware.gpus_per_job=0"), "cpu"),
        (("hardware=slurm",), "cpu"),
        (("hardware=slurm", "hardware.gpus_per_job=1"), "cuda"),
        (("hardware=slurm", "hardware.device=cuda"), "cuda"),
    ],
)
def test_what_jobs_compute_on_is_known_where_they_are_planned(overrides, device):
    assert parse(composed(*overrides)).hardware.device_type == device


@pytest.mark.parametrize("driver", [False, True])
def test_torch_is_asked_for_a_gpu_only_where_there_is_a_driver(driver):
    code = (
        "import sys; from kdsweep.config import Hardware; from kdsweep.training import device;"
        f"device._has_driver = lambda: {driver};"
        "device.uses_cuda(Hardware(device='auto', threads=1)); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == driver


def test_a_job_that_is_given_a_gpu_does_not_do_without(monkeypatch):
    given = Hardware(device="auto", threads=1, kind="slurm", minutes=60, gpus_per_job=1)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ConfigError, match=r"hardware\.device=auto: 0 CUDA GPUs are visible here"):
        resolve(given)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert resolve(given).type == "cuda"
    assert resolve(given.model_copy(update={"gpus_per_job": 0})).type == "cpu"


OWN = """
from functools import partial
from torch import nn

WIDTH = 3


class Plain(nn.Module):
    def __init__(self, num_classes, in_channels=1, *, width=4, sizes=(1, 2), rate: float = 0.0,
                 act=nn.ReLU, wide=WIDTH, far=1e999):
        super().__init__()


class Child(Plain):
    pass


def build(num_classes, in_channels, image_size, depth=2, width=3):
    return Plain(num_classes, width=width)


@partial
def decorated(width=1): ...


class Twice:
    def __init__(self, width=1): ...


Twice = partial(Twice, width=2)
"""


def test_options_that_are_left_out_are_as_their_defaults(tmp_path, monkeypatch):
    (tmp_path / "own_networks.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)

    def defaults(name: str, **options: object) -> dict[str, object]:
        return default_options({"_target_": f"own_networks.{name}", **options})

    assert defaults("Plain") == {"width": 4, "sizes": (1, 2), "rate": 0.0}, "plain values alone"
    assert defaults("Plain", width=9) == {"sizes": (1, 2), "rate": 0.0}
    assert defaults("build", depth=1) == {"width": 3}
    for unknown in ("Child", "decorated", "Twice", "Missing", "build.more"):
        assert defaults(unknown) == {}
    assert default_options({"_target_": "torch.nn.Linear"}) == {}, "of libraries nothing is known"
    assert default_options({"_target_": "kdsweep.networks.zoo.wrn.WideResNet", "depth": 10}) == {
        "width": 1,
        "dropout": 0.0,
    }
    (tmp_path / "own_networks.py").write_text("def build(num_classes, width=7): ...\n# edited")
    assert defaults("build") == {"width": 7}


def test_a_left_out_option_and_its_default_are_one_key(tmp_path):
    known = replace(KNOWN, defaults=lambda network: default_options(network.model))
    shorter = ("student=wrn", "student.model.depth=10", "~student.model.dropout")
    longer = ("student=wrn", "student.model.depth=10", "student.model.dropout=0")
    assert keys(*shorter, known=known) == keys(*longer, known=known)
    assert keys(*shorter, known=known) != keys(*longer[:2], "student.model.dropout=0.1", known=known)
    fitted = [
        train(
            make_stage({"_target_": "kdsweep.networks.zoo.mlp.MLP", **options}, epochs=1),
            tmp_path / str(len(options)),
        )
        for options in ({}, {"hidden": [784, 784]})
    ]
    assert_same_weights(*fitted)


@pytest.mark.long
def test_a_sweep_to_alpha_1_trains_one_student_for_all_of_it(kdsweep: Command, tmp_path):
    shown = kdsweep("-m", "alpha=0,1", "temperature=1,4", *TINY).stdout
    assert len(list((tmp_path / "kdsweep-store").glob("*/stage.json"))) == 4, "teacher, alone, two taught"
    results = [json.loads(file.read_text()) for file in tmp_path.glob("multirun/**/result.json")]
    assert len(results) == 4
    for result in results:
        student, alone = (result["networks"][role] for role in ("student", "scratch"))
        assert (student["key"] == alone["key"]) == (result["swept"]["alpha"] == 1)
        if student["key"] == alone["key"]:
            assert student["test"] == alone["test"] and student["test"]["agreement"] is not None
    assert "The best of 3 recipes" in shown


def test_a_stage_in_two_roles_is_planned_once():
    alone = make_stage()
    need = Need("scratch", alone, [0], False, 0, 4, 1.0, False)
    job = Planned({}, {"scratch": alone, "student": alone})
    assert _of(job, {alone.key: need}) == [need]
