"""A data set ready for training: limits applied, validation split drawn, normalisation known."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kdsweep import config
from kdsweep.data.arrays import read_arrays
from kdsweep.data.files.names import meant
from kdsweep.data.files.read import read_image_files
from kdsweep.data.split import UNLABELED, Split, grouped_split
from kdsweep.errors import DataError
from kdsweep.stage import digest
from kdsweep.store.store import Store

log = logging.getLogger(__name__)

CHUNK = 2**26  # bytes of images that are read at a time


@dataclass(frozen=True)
class Dataset:
    """The splits of one data set. Selection uses only `val`, which is None if no image was held back for it;
    `test` is for the report. From `unlabeled`, whose labels are -1, taught students learn beside `train`."""

    train: Split
    val: Split | None
    test: Split
    classes: tuple[str, ...]
    mean: NDArray[np.float32]  # [C], of pixels in [0, 1]
    std: NDArray[np.float32]  # [C]
    fingerprint: str  # of the training images and labels, before limits and before val is drawn from them
    test_fingerprint: str
    positive: int | None = None  # the positive class, where there are two
    draws_val: bool = True  # whether val_fraction decides on val: the files have no such split
    available: int = 0  # training images before limits, and before val was drawn from them
    entries: tuple[str, ...] = ()  # keys of what the store holds of it
    deep_range: tuple[int, int] | None = None  # what became 0 and 255 of image files with 16 bits, if any
    unlabeled: Split | None = None
    unlabeled_fingerprint: str | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width of an image."""
        return self.train.source.shape[1:]

    @property
    def splits(self) -> dict[str, Split]:
        """The splits that there are, by name."""
        splits = {"train": self.train, "val": self.val, "test": self.test, UNLABELED: self.unlabeled}
        return {name: split for name, split in splits.items() if split is not None}


def load(recipe: config.Dataset, store: Store) -> Dataset:
    """The data set that `recipe` describes, once per process; decoded images are kept in `store`.

    Raises DataError for files that are missing or are not what they should be.
    """
    return _load(recipe, *store.folders)


@lru_cache(maxsize=2)
def _load(recipe: config.Dataset, store: Path, source: Path | None = None) -> Dataset:
    images = Store(store, source=source)
    if isinstance(recipe, config.ArrayDataset):
        contents = read_arrays(recipe.source, recipe.root)
    else:
        contents = read_image_files(recipe, images)
    train, val = contents.train.take(slice(recipe.train_limit)), contents.val
    fingerprint = contents.fingerprint
    if val is None and recipe.val_fraction:
        copies = _copies(train, isinstance(recipe, config.ArrayDataset))
        if len(np.unique(copies)) < len(copies):
            fingerprint = digest({"content": fingerprint, "copies": "on one side of the drawn split"})
        train, val = _draw_val(train, copies, recipe)
    dataset = Dataset(
        train,
        val,
        contents.test.take(slice(recipe.test_limit)),
        contents.classes,
        *_statistics(train, recipe.normalize),
        fingerprint,
        contents.test_fingerprint,
        _positive(recipe, contents.classes),
        contents.val is None,
        len(contents.train.labels),
        tuple(sorted(images.used)),
        contents.deep_range,
        contents.unlabeled,
        contents.unlabeled_fingerprint,
    )
    _warn_of_missing(recipe, dataset.classes, dataset.splits)
    _refuse_channels(recipe, dataset.shape[0])
    return dataset


def _refuse_channels(recipe: config.Dataset, channels: int) -> None:
    """Raise DataError for operations on colours that the images do not have."""
    if recipe.augment.operates and channels not in (1, 3):
        raise DataError(
            f"dataset.augment.{recipe.augment.operates}: needs images of 1 or 3 channels, and those of "
            f"{recipe.name} have {channels}; leave it out"
        )


def _warn_of_missing(recipe: config.Dataset, classes: Sequence[str], splits: Mapping[str, Split]) -> None:
    """Warn of classes that lost all images of a split to limits or draws."""
    for name, split in splits.items():
        if name == UNLABELED:
            continue
        counts = np.bincount(split.labels, minlength=len(classes))
        missing = [name for name, count in zip(classes, counts, strict=True) if not count]
        if missing:
            log.warning(
                "dataset %s: %d of %d classes have none of the %d %s images: %s",
                *(recipe.name, len(missing), len(classes), len(split.labels), name, ", ".join(missing[:10])),
            )


def _copies(split: Split, of_arrays: bool) -> NDArray[np.int64]:
    """A number for each image, equal for equal images."""
    if not of_arrays:
        return split.rows  # equal image files share a row
    digests = [hashlib.sha256(split.source[row].data).digest() for row in split.rows]
    return np.unique(digests, return_inverse=True)[1]


def _draw_val(train: Split, copies: NDArray[np.int64], recipe: config.Dataset) -> tuple[Split, Split]:
    """The rest for training, and the drawn part for validation."""
    val, rest = grouped_split(train.labels, copies, recipe.val_fraction, recipe.split_seed)
    if not len(val) or not len(rest):
        raise DataError(
            f"dataset.val_fraction={recipe.val_fraction} of {len(train.labels)} training images leaves "
            f"{len(val)} for validation and {len(rest)} for training; both need at least one"
        )
    return train.take(rest), train.take(val)


def _positive(recipe: config.Dataset, classes: Sequence[str]) -> int | None:
    """The index of the positive class. Raises DataError if it does not exist."""
    named = recipe.positive_class
    if named is None:
        return 1 if len(classes) == 2 else None
    if len(classes) != 2:
        raise DataError(
            f"dataset.positive_class={named}: needs two classes, and {recipe.name} has {len(classes)}; "
            "allowed: null"
        )
    found = meant(named, classes)
    if len(found) != 1:
        why = "YAML reads both classes as this, so write it in quotes" if found else "no such class"
        raise DataError(f"dataset.positive_class={named}: {why}; allowed: {', '.join(classes)}, null")
    return classes.index(found[0])


def _statistics(split: Split, normalize: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The mean and standard deviation per channel that normalise pixels in [0, 1]."""
    channels = split.source.shape[1]
    if normalize == "unit":
        return np.zeros(channels, np.float32), np.ones(channels, np.float32)
    counts = np.zeros((channels, 256), np.int64)
    images = max(1, CHUNK // split.source[0].size)
    for start in range(0, len(split.rows), images):
        chunk = split.source[split.rows[start : start + images]]
        for channel in range(channels):
            counts[channel] += np.bincount(chunk[:, channel].reshape(-1), minlength=256)
    shares = counts / counts.sum(axis=1, keepdims=True)
    pixels = np.arange(256) / 255
    mean = shares @ pixels
    std = np.sqrt(shares @ pixels**2 - mean**2)
    return mean.astype(np.float32), np.maximum(std, 1e-6).astype(np.float32)
