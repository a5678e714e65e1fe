"""The recipes of conf/experiment: their values are the published ones, and each trains.

That is for two epochs, on a few images made in the form of its data set.
"""

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest
from helpers import CONF, composed, write_images
from omegaconf import OmegaConf

from kdsweep.config.parse import parse
from kdsweep.data.arrays import IDX_FILES
from kdsweep.job import run_job
from kdsweep.networks.build import build, parameter_count
from kdsweep.results.result import JobResult
from kdsweep.training.frozen import freeze

RECIPES = sorted(file.stem for file in (CONF / "experiment").glob("*.yaml"))
SHORT = (
    "training.epochs=2",
    "teacher.training.epochs=2",
    "dataset.val_fraction=0.25",
    "training.batch_size=8",
    "store=store",
)
OFFLINE = ("teacher.model.pretrained=false", "student.model.pretrained=false")
LIKE_CIFAR = ("dataset=image_folder", "dataset.image_size=32")
SMALLER = {  # the same networks on smaller images, and nothing downloaded
    "ants_bees": ("dataset.image_size=32", "teacher.model.upsample=1", OFFLINE[0]),
    "birds_ban": ("dataset.image_size=16",),
    "birds_cross": ("dataset.image_size=32",),
    "cats_dogs": ("dataset.image_size=48",),
    "cifar10_ban": LIKE_CIFAR,
    "cifar10_ban_logits": LIKE_CIFAR,
    "cifar10_ban_soft": LIKE_CIFAR,
    "cifar10_cnn": LIKE_CIFAR,
    "cifar10_resnet": (*LIKE_CIFAR, "teacher.model.upsample=1", "student.model.upsample=1", OFFLINE[0]),
    "cifar10_resnet_finetuned": (
        *(*LIKE_CIFAR, "teacher.model.upsample=1", "student.model.upsample=1"),
        OFFLINE[0],
    ),
    "mhist_transfer": (
        *("dataset.image_size=32", "teacher.model.upsample=1", "student.model.upsample=1", *OFFLINE),
        *("method=takd", "chain_length=2", "temperature=1", "teacher.training.fine_tuning.epochs=1"),
    ),
    "skin_ban": ("dataset.image_size=16",),
    "smoothed_teacher": ("dataset.train_limit=200",),
    "zoo_cifar100": LIKE_CIFAR,
}
LAYOUTS = {
    "ants_bees": ["train/ants", "train/bees", "val/ants", "val/bees"],
    "cats_dogs": ["Cat", "Dog"],
    "birds": [f"{split}/{name}" for split in ("train", "valid", "test") for name in ("owl", "rook", "wren")],
    "skin": [f"{split}/{name}" for split in ("train", "test") for name in ("benign", "malignant")],
    "cifar10_small": [f"{split}/{name}" for split in ("train", "test") for name in ("cat", "dog", "ship")],
    "image_folder": [f"{split}/{name}" for split in ("train", "test") for name in ("cat", "dog", "ship")],
}
IMAGES = 12
SQUARED = "method.terms.kd.scale_by_temperature_squared"
KERAS = {
    "training.optimizer.eps": 1e-7,
    "teacher.training.optimizer.eps": 1e-7,
    "teacher.init": "keras",
    "student.init": "keras",
}
BAN = KERAS | {
    "alpha": 0, "chain_length": 3, "training.batch_size": 32, "training.keep": "best",
    "training.monitor": "val/cross_entropy", "training.epochs": 100, "training.patience": 12,
    "teacher.training.monitor": "val/cross_entropy", "teacher.training.epochs": 100,
    "teacher.training.patience": 8, "dataset.augment.rotation": 20,
    "dataset.augment.shift": 0.2, "dataset.augment.horizontal_flip": True,
}  # fmt: skip
RESNET = KERAS | {
    "temperature": 7, "alpha": 0.3, SQUARED: True, "training.epochs": 5,
    "training.batch_size": 32, "training.learning_rate": 1e-3, "dataset.train_limit": 10_000,
    "dataset.test_limit": 2_000, "teacher.model.pretrained": "IMAGENET1K_V1",
    "teacher.training.trainable": "head", "student.init": "keras_he",
}  # fmt: skip
MNIST = KERAS | {
    "temperature": 4, "alpha": 0.5, SQUARED: True, "training.epochs": 12,
    "teacher.training.epochs": 12, "training.batch_size": 256, "training.learning_rate": 1e-3,
}  # fmt: skip
VALUES = {  # as the published documents have them
    "mnist_kd": MNIST,
    "mnist_takd": MNIST | {"chain_length": 2, "student.assistants.0.init": "keras"},
    "mhist_transfer": KERAS | {
        "temperature": 2, "alpha": 0.5, "training.epochs": 25, "training.batch_size": 32,
        "training.learning_rate": 1e-3, "training.trainable": "head", "teacher.training.learning_rate": 1e-4,
        "teacher.training.trainable": 3, "student.assistants.0.training.trainable": "head",
        "student.assistants.0.temperature": 1, "student.assistants.0.init": "keras",
        "dataset.augment.zoom": [0.5, 1], "dataset.augment.independent_zoom": True,
        "dataset.augment.brightness": [0.2, 1], "dataset.augment.rotation": 180,
    },
    "cifar10_resnet": RESNET,
    "cifar10_resnet_finetuned": RESNET | {"teacher.training.trainable": "all"},
    "cats_dogs": KERAS | {
        "temperature": 5, "alpha": 0.05, SQUARED: False, "training.epochs": 5,
        "teacher.training.epochs": 8, "training.batch_size": 32, "training.learning_rate": 1e-3,
    },
    "cifar10_cnn": KERAS | {
        "temperature": 10, SQUARED: False, "training.epochs": 20,
        "teacher.training.epochs": 20, "training.batch_size": 64, "training.learning_rate": 1e-3,
    },
    "cifar10_ban": BAN | {"temperature": 1},
    "cifar10_ban_logits": BAN | {
        "method.name": "logit_mse", "chain_length": 2, "training.monitor": "train/loss",
        "training.patience": 5,
    },
    "cifar10_ban_soft": BAN | {
        "temperature": 3, SQUARED: False, "training.monitor": "train/loss",
        "training.patience": 8, "training.epochs": 150,
    },
    "skin_ban": BAN | {
        "training.epochs": 150, "training.patience": 15, "teacher.training.epochs": 150,
        "teacher.training.patience": 15, "dataset.image_size": 256, "dataset.val_fraction": 0.1,
        "dataset.augment.rotation": 10, "dataset.augment.zoom": [0.9, 1.1],
        "dataset.augment.independent_zoom": True, "dataset.augment.horizontal_flip": False,
    },
    "birds_ban": BAN | {"dataset.image_size": 96, "student.model.width": 2, "teacher.model.width": 2},
    "zoo_cifar100": {
        "temperature": 4, "alpha": 0.1, "training.epochs": 240, "training.batch_size": 64,
        "training.learning_rate": 0.05, "training.keep": "last", "training.optimizer.momentum": 0.9,
        "training.optimizer.weight_decay": 5e-4,
        "training.schedule.milestones": [150, 180, 210], "dataset.augment.crop_padding": 4,
        "dataset.augment.horizontal_flip": True, "teacher.model.depth": 32, "student.model.depth": 8,
    },
    "birds_cross": BAN | {"dataset.image_size": 96, "chain_length": 1, "student.model.width": 4},
}  # fmt: skip


def write_mnist(root: Path) -> None:
    random, folder = np.random.RandomState(0), root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name, count in zip(IDX_FILES, (60, 60, 20, 20), strict=True):
        shape = (count, 28, 28) if "images" in name else (count,)
        values = random.randint(0, 256, shape) if "images" in name else np.arange(count) % 10
        head = bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes()
        (folder / f"{name}.gz").write_bytes(gzip.compress(head + values.astype(np.uint8).tobytes()))


def write_mhist(root: Path) -> None:
    names = write_images(root / "images", 3 * IMAGES)
    with (root / "annotations.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        votes = "Number of Annotators who Selected SSA (Out of 7)"
        writer.writerow(["Image Name", "Majority Vote Label", votes, "Partition"])
        for i, name in enumerate(names):
            writer.writerow([name, ("HP", "SSA")[i % 2], 7 * (i % 2), "test" if i % 3 == 0 else "train"])


def write_data(root: Path, dataset: str) -> None:
    if dataset == "mnist":
        write_mnist(root)
    elif dataset == "mhist":
        write_mhist(root)
    elif dataset != "digits":
        for folder in LAYOUTS[dataset]:
            write_images(root / folder, IMAGES)


def test_only_recipes_of_our_own_have_no_published_values():
    assert {*RECIPES} - {*VALUES} == {"ants_bees", "function_matching", "smoothed_teacher", "zoo_small"}


@pytest.mark.parametrize("recipe", VALUES)
def test_values_are_the_published_ones(recipe):
    config = parse(composed(f"experiment={recipe}"))
    values = OmegaConf.create(config.model_dump(mode="json", by_alias=True))
    differ = {
        key: value
        for key, expected in VALUES[recipe].items()
        if (value := OmegaConf.select(values, key)) != expected
    }
    assert not differ
    assert config.chain_length == VALUES[recipe].get("chain_length", 1)


def test_what_of_the_mhist_teacher_learns():
    """The last convolution, the normalization after it and the head: with a bias more, Keras' 1,058,818."""
    config = parse(composed("experiment=mhist_transfer", OFFLINE[0]))
    network = build({**config.teacher.model}, 2, (3, 224, 224))
    freeze(network, config.teacher.training.trainable, list(network.parameters()))
    assert sum(weight.numel() for weight in network.parameters() if weight.requires_grad) == 1_056_770


@pytest.mark.parametrize(
    ("recipe", "role", "classes", "shape", "expected"),
    [
        ("skin_ban", "student", 2, (3, 256, 256), 368_978),
        ("birds_ban", "student", 225, (3, 96, 96), 1_495_345),
        ("birds_cross", "teacher", 225, (3, 96, 96), 2_512_097),
        ("birds_cross", "student", 225, (3, 96, 96), 2_804_145),
        ("cifar10_resnet", "student", 10, (3, 32, 32), 11_181_642),
    ],
)
def test_sizes_of_networks_in_recipes(recipe, role, classes, shape, expected):
    config = composed(f"experiment={recipe}")
    assert (
        parameter_count(OmegaConf.to_container(config[role].model, resolve=True), classes, shape) == expected
    )


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('tracking')}/mlflow.db"


@pytest.mark.long
@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_trains(recipe, tmp_path, database, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = composed(f"experiment={recipe}", *SMALLER.get(recipe, ()), *SHORT, f"tracking.uri={database}")
    config.dataset.root = str(tmp_path / "data")
    write_data(tmp_path / "data", config.dataset.name)
    result = JobResult(0, {})
    run_job(config, tmp_path, result, None)
    assert 0 <= result.objective <= 1
    assert len(result.chain) == config.chain_length + 1
    assert ("ensemble" in result.networks) == (config.chain.name == "generations")
    for role in result.chain:
        trained = result.networks[role]
        assert 0 <= trained.test.accuracy <= 1 and trained.cost.parameters > 1000
        assert (Path(config.store) / trained.key / "weights.safetensors").is_file()
    assert (tmp_path / "chain.png").exists() == (len(result.chain) > 2)
    assert (tmp_path / "curves.png").exists()
