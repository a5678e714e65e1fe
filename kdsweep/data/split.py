"""Splits: some images of an array with their labels, and how they are drawn."""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]  # [N, C, H, W]
Labels = NDArray[np.int64]  # [N]

UNLABELED = "unlabeled"  # the split of images without labels


@dataclass(frozen=True)
class Split:
    """Some images of an array, which splits share without copying."""

    source: Images  # uint8 [M, C, H, W], in memory or memory-mapped
    rows: NDArray[np.int64]  # [N], this split's images in it
    labels: Labels  # int64 [N]
    part: str = ""  # of an array of images: its name
    paths: NDArray[np.str_] | None = None  # [N], of image files, in the data set's folder

    @property
    def names(self) -> list[str]:
        """The images' names: paths, or the place in a part, such as train/17."""
        if self.paths is not None:  # those of a folder outside of the data set's begin with its name
            return [re.sub(r"^(\.\./)+", "", str(path)) for path in self.paths]
        return [f"{self.part}/{row}" for row in self.rows]

    @property
    def images(self) -> Images:
        """uint8 [N, C, H, W], copied into memory."""
        return self.source[self.rows]

    def take(self, which: NDArray[np.intp] | slice) -> "Split":
        paths = None if self.paths is None else self.paths[which]
        return Split(self.source, self.rows[which], self.labels[which], self.part, paths)


@dataclass(frozen=True)
class Contents:
    """The contents of a data set's files, before limits and before a validation split is drawn."""

    classes: tuple[str, ...]
    train: Split
    val: Split | None  # None: to be drawn from `train`
    test: Split
    fingerprint: str  # of the images and labels in `train` and `val`
    test_fingerprint: str
    deep_range: tuple[int, int] | None = None  # what became 0 and 255 of image files with 16 bits
    unlabeled: Split | None = None  # images without labels, which are -1 here
    unlabeled_fingerprint: str | None = None


def stratified_split(labels: Labels, share: float, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rising indices of a part with `share` of all images and of every class, and of the rest.

    Classes get their share rounded down; those with the largest remainders get one more until the sum is
    right. numpy never changes RandomState's stream, so a seed draws the same split everywhere.
    """
    random = np.random.RandomState(seed)
    values, counts = np.unique(labels, return_counts=True)
    exact = share * counts
    quotas = np.floor(exact).astype(int)
    largest_rests = np.argsort(quotas - exact, kind="stable")
    quotas[largest_rests[: round(share * len(labels)) - quotas.sum()]] += 1
    part = np.zeros(len(labels), dtype=bool)
    for value, quota in zip(values, quotas, strict=True):
        part[random.permutation(np.flatnonzero(labels == value))[:quota]] = True
    return np.flatnonzero(part), np.flatnonzero(~part)


def grouped_split(
    labels: Labels, groups: NDArray[np.int64], share: float, seed: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """As `stratified_split`, of the first image of each group; the rest of a group follows it."""
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    first = np.sort(first)
    drawn, _ = stratified_split(labels[first], share, seed)
    part = np.isin(group, group[first[drawn]])
    return np.flatnonzero(part), np.flatnonzero(~part)
