"""Every recipe of conf/experiment trains: two epochs, on a few images made in the form of its data set."""

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_config import CONF, composed

from kdsweep.data.sources import IDX_FILES
from kdsweep.job import run_job
from kdsweep.result import Result

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
        *("method=takd", "chain_length=2", "teacher.training.fine_tuning.epochs=1"),
    ),
    "skin_ban": ("dataset.image_size=16",),
}
LAYOUTS = {
    "ants_bees": ["train/ants", "train/bees", "val/ants", "val/bees"],
    "cats_dogs": ["Cat", "Dog"],
    "birds": [f"{split}/{name}" for split in ("train", "valid", "test") for name in ("owl", "rook", "wren")],
    "skin": [f"{split}/{name}" for split in ("train", "test") for name in ("benign", "malignant")],
    "image_folder": [f"{split}/{name}" for split in ("train", "test") for name in ("cat", "dog", "ship")],
}
IMAGES = 12


def write_images(folder: Path, count: int, side: int = 20) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.RandomState(len(str(folder)))
    names = [f"{i}.png" for i in range(count)]
    for name in names:
        Image.fromarray(random.randint(0, 256, (side, side, 3)).astype(np.uint8)).save(folder / name)
    return names


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
    else:
        for folder in LAYOUTS[dataset]:
            write_images(root / folder, IMAGES)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('tracking')}/mlflow.db"


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_trains(recipe, tmp_path, database, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = composed(f"experiment={recipe}", *SMALLER.get(recipe, ()), *SHORT, f"tracking.uri={database}")
    config.dataset.root = str(tmp_path / "data")
    write_data(tmp_path / "data", config.dataset.name)
    result = Result(0, {})
    run_job(config, tmp_path, result, None)
    assert 0 <= result.objective <= 1
    assert len(result.chain) == config.chain_length + 1
    assert ("ensemble" in result.networks) == (config.method.name == "ban")
    for role in result.chain:
        trained = result.networks[role]
        assert trained["test"]["accuracy"] is not None and trained["cost"]["parameters"] > 1000
        assert Path(trained["weights"]).is_file()
    assert (tmp_path / "chain.png").exists() == (len(result.chain) > 2)
    assert (tmp_path / "curves.png").exists()
