"""A data set ready for training: limits applied, validation split drawn, normalisation known."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from kdsweep import config
from kdsweep.data.sources import SOURCES, Arrays, Images, Labels, read, stratified_split
from kdsweep.errors import DataError


@dataclass(frozen=True)
class Split:
    images: Images  # uint8 [N, C, H, W]
    labels: Labels  # int64 [N]


@dataclass(frozen=True)
class Dataset:
    """Three splits of one data set. Selection looks at `val` alone; `test` is for the report."""

    train: Split
    val: Split
    test: Split
    classes: tuple[str, ...]
    mean: NDArray[np.float32]  # [C], of pixels in [0, 1]
    std: NDArray[np.float32]  # [C]
    fingerprint: str  # of the training images and labels, before limits and splits
    test_fingerprint: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width of an image."""
        return self.train.images.shape[1:]

    def split(self, name: str) -> Split:
        splits: dict[str, Split] = {"train": self.train, "val": self.val, "test": self.test}
        return splits[name]


@lru_cache(maxsize=1)
def _read(name: str, root: str) -> tuple[Arrays, str, str]:
    """The arrays, once per process, and digests of what is for training and what for testing."""
    arrays = read(name, root)
    train = _content(arrays.train_images, arrays.train_labels)
    return arrays, train, _content(arrays.test_images, arrays.test_labels)


def _content(images: Images, labels: Labels) -> str:
    content = hashlib.sha256()
    for array in (images, labels):
        content.update(str((array.dtype.name, array.shape)).encode())
        content.update(np.ascontiguousarray(array).data)
    return content.hexdigest()[:32]


@lru_cache(maxsize=2)
def load(recipe: config.Dataset) -> Dataset:
    """The data set that `recipe` describes. Raises DataError, or what the files are missing."""
    arrays, *fingerprints = _read(recipe.name, recipe.root)
    classes = SOURCES[recipe.name].classes
    images, labels = arrays.train_images[: recipe.train_limit], arrays.train_labels[: recipe.train_limit]
    val, train = stratified_split(labels, recipe.val_fraction, recipe.split_seed)
    if not len(val) or not len(train):
        raise DataError(
            f"dataset.val_fraction={recipe.val_fraction} of {len(labels)} training images leaves "
            f"{len(val)} to validate with and {len(train)} to train on; both need one at least"
        )
    test = Split(arrays.test_images[: recipe.test_limit], arrays.test_labels[: recipe.test_limit])
    mean, std = _statistics(images[train], recipe.normalize)
    splits = (Split(images[train], labels[train]), Split(images[val], labels[val]), test)
    return Dataset(*splits, classes, mean, std, *fingerprints)


def _statistics(images: Images, normalize: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and standard deviation per channel that normalise pixels in [0, 1]."""
    channels = images.shape[1]
    if normalize == "unit":
        return np.zeros(channels, np.float32), np.ones(channels, np.float32)
    counts = np.stack([np.bincount(images[:, c].reshape(-1), minlength=256) for c in range(channels)])
    shares = counts / counts.sum(axis=1, keepdims=True)
    pixels = np.arange(256) / 255
    mean = shares @ pixels
    std = np.sqrt(shares @ pixels**2 - mean**2)
    return mean.astype(np.float32), np.maximum(std, 1e-6).astype(np.float32)
