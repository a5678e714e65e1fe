"""Reading, limiting, splitting, normalising and augmenting images."""

import gzip
import pickle
import struct

import numpy as np
import pytest
import torch
from conftest import NO_AUGMENT
from hypothesis import given
from hypothesis import strategies as st

from kdsweep import config
from kdsweep.config import Augment
from kdsweep.data import dataset as dataset_module
from kdsweep.data import load
from kdsweep.data.augment import augment
from kdsweep.data.sources import IDX_FILES, stratified_split
from kdsweep.errors import DataError


@pytest.fixture(autouse=True)
def nothing_cached():
    dataset_module._read.cache_clear()
    load.cache_clear()


def recipe(**changes) -> config.Dataset:
    given = {
        "name": "digits", "root": "data", "train_limit": None, "test_limit": None, "val_fraction": 0.2,
        "split_seed": 0, "normalize": "unit", "augment": NO_AUGMENT,
    }  # fmt: skip
    return config.Dataset(**{**given, **changes})


def write_idx(folder, zipped: bool, train: int = 40, test: int = 20) -> np.ndarray:
    """MNIST's four files with images that tell their number by their first pixel."""
    folder.mkdir(parents=True)
    images = np.random.RandomState(0).randint(0, 255, (train, 28, 28)).astype(np.uint8)
    images[:, 0, 0] = np.arange(train)
    for name, array in zip(
        IDX_FILES, (images, np.arange(train) % 10, images[:test], np.arange(test) % 10), strict=True
    ):
        array = array.astype(np.uint8)
        content = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()
        if zipped:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return images


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    data = load(recipe())
    ours = np.concatenate([data.train.images, data.val.images, data.test.images])[:, 0]
    theirs = np.rint(load_digits().images * 255 / 16).astype(np.uint8)
    assert sorted(map(bytes, ours)) == sorted(map(bytes, theirs))
    assert (len(data.train.labels), len(data.val.labels), len(data.test.labels)) == (1150, 288, 359)


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
def test_idx_files_raw_and_zipped_are_one_data_set(tmp_path, name, folder):
    images = write_idx(tmp_path / "raw" / folder / "raw", zipped=False)
    write_idx(tmp_path / "gz" / folder / "raw", zipped=True)
    raw, zipped = (load(recipe(name=name, root=str(tmp_path / kind))) for kind in ("raw", "gz"))
    assert raw.fingerprint == zipped.fingerprint
    assert raw.test_fingerprint == zipped.test_fingerprint != raw.fingerprint
    assert raw.shape == (1, 28, 28)
    everything = np.concatenate([raw.train.images, raw.val.images])[:, 0]
    assert sorted(map(bytes, everything)) == sorted(map(bytes, images))
    for split in (raw.train, raw.val):
        assert (split.images[:, 0, 0, 0] % 10 == split.labels).all(), "images keep their labels"


def test_cifar10_is_read_channels_first(tmp_path, monkeypatch):
    from torchvision.datasets import CIFAR10

    monkeypatch.setattr(CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr(CIFAR10, "_load_meta", lambda self: None)
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    pixels = np.arange(20 * 3 * 32 * 32, dtype=np.int64).reshape(20, -1) % 251
    (folder / "batches.meta").write_bytes(b"")
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        content = {"data": pixels.astype(np.uint8), "labels": [i % 10 for i in range(20)]}
        (folder / name).write_bytes(pickle.dumps(content))
    data = load(recipe(name="cifar10", root=str(tmp_path)))
    assert data.shape == (3, 32, 32)
    assert (data.test.images.reshape(20, -1) == pixels).all()
    assert len(data.train.labels) + len(data.val.labels) == 100


def test_missing_files_are_named(tmp_path, monkeypatch):
    import torchvision.datasets

    def offline(*arguments: object, **options: object) -> None:
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz:\nTried …")

    monkeypatch.setattr(torchvision.datasets, "MNIST", offline)
    with pytest.raises(DataError) as error:
        load(recipe(name="mnist", root=str(tmp_path)))
    message = str(error.value)
    assert f"dataset.root={tmp_path}" in message
    assert all(f"MNIST/raw/{name}" in message for name in IDX_FILES)
    assert len(message.splitlines()) == 2


@pytest.mark.parametrize(
    "damage", [b"", b"not idx at all", gzip.compress(b"abc")[:10], gzip.compress(b"a" * 99)[:15] + b"x" * 30]
)
def test_damaged_files_are_named(tmp_path, damage):
    folder = tmp_path / "MNIST" / "raw"
    write_idx(folder, zipped=True)
    (folder / f"{IDX_FILES[0]}.gz").write_bytes(damage)
    with pytest.raises(DataError, match=rf"{IDX_FILES[0]}\.gz cannot be read"):
        load(recipe(name="mnist", root=str(tmp_path)))


def test_limits_take_the_first(tmp_path):
    images = write_idx(tmp_path / "MNIST" / "raw", zipped=False)
    data = load(recipe(name="mnist", root=str(tmp_path), train_limit=20, test_limit=5))
    both = np.concatenate([data.train.images, data.val.images])[:, 0]
    assert sorted(both[:, 0, 0]) == list(range(20))
    assert (data.test.images[:, 0] == images[:5]).all()


def test_a_split_without_images_is_refused():
    with pytest.raises(DataError, match=r"dataset\.val_fraction=0\.2 of 1 training images"):
        load(recipe(train_limit=1))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.floats(0.01, 0.99), st.integers(0, 99))
def test_stratified_split(labels, share, seed):
    labels = np.array(labels)
    part, rest = stratified_split(labels, share, seed)
    assert sorted([*part, *rest]) == list(range(len(labels))), "every image once"
    assert len(part) == round(share * len(labels)), "the share of the whole"
    for label in np.unique(labels):
        count = (labels == label).sum()
        assert abs((labels[part] == label).sum() - share * count) <= 1, "and of every class"
    again, _ = stratified_split(labels, share, seed)
    assert (part == again).all()


def test_split_seed_draws_another_validation_split():
    first, second = load(recipe()), load(recipe(split_seed=1))
    assert not np.array_equal(first.val.images, second.val.images)
    assert np.array_equal(first.test.images, second.test.images)


def test_standard_normalisation_is_of_the_training_split():
    data = load(recipe(normalize="standard"))
    pixels = data.train.images / 255
    np.testing.assert_allclose(data.mean, pixels.mean(axis=(0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(data.std, pixels.std(axis=(0, 2, 3)), rtol=1e-5)


@given(st.integers(1, 3), st.integers(0, 99))
def test_crops_are_windows_of_the_padded_image(padding, seed):
    images = torch.randint(1, 255, (6, 2, 5, 7), dtype=torch.uint8)
    generator = torch.Generator().manual_seed(seed)
    cropped = augment(images, Augment(crop_padding=padding, horizontal_flip=False), generator)
    padded = torch.nn.functional.pad(images, (padding,) * 4)
    for image, crop in zip(padded, cropped, strict=True):
        windows = image.unfold(1, 5, 1).unfold(2, 7, 1).permute(1, 2, 0, 3, 4).reshape(-1, 2, 5, 7)
        assert (windows == crop).all(dim=(1, 2, 3)).any()


def test_flips_are_drawn_per_image_and_seeded():
    images = torch.randint(0, 255, (64, 1, 4, 4), dtype=torch.uint8)
    flip = Augment(crop_padding=0, horizontal_flip=True)
    first, second = (augment(images, flip, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)
    kept = (first == images).all(dim=(1, 2, 3))
    flipped = (first == images.flip(3)).all(dim=(1, 2, 3))
    assert (kept | flipped).all()
    assert 10 < kept.sum() < 54


def test_without_augmentation_images_stay():
    images = torch.randint(0, 255, (4, 1, 4, 4), dtype=torch.uint8)
    assert augment(images, NO_AUGMENT, torch.Generator()) is images
