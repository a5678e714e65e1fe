"""Duplicates: images that a data set has more than once, in two splits or under two labels."""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence

from kdsweep.config import ImageDataset
from kdsweep.data.files.folders import ImageFile, counted, shown, some
from kdsweep.data.split import UNLABELED
from kdsweep.errors import DataError
from kdsweep.system.progress import once

log = logging.getLogger(__name__)

KEPT = (
    "test",
    "val",
    "train",
    UNLABELED,
)  # the first split that has a copy keeps it, so the test images stay the same


def without_duplicates(
    recipe: ImageDataset, files: Sequence[ImageFile], digests: Mapping[str, str]
) -> list[ImageFile]:
    """The files, without copies if `duplicates` is drop.

    Copies within one split and label do no harm. A warning names the others, or a DataError if `duplicates`
    is refuse.
    """
    same: defaultdict[str, list[ImageFile]] = defaultdict(list)
    for file in files:
        same[digests[file.path]].append(file)
    copied = [group for group in same.values() if len(group) > 1]
    differing = [group for group in copied if len(_labels(group)) > 1]
    shared = [group for group in copied if len({file.split for file in group}) > 1]
    found = {"more than one label": differing, "more than one split": shared}
    where = f"dataset.root={recipe.root}"
    if recipe.duplicates == "refuse" and (differing or shared):
        lines = [f"{how}: {_pair(group)}" for how, groups in found.items() for group in groups]
        counts = ", ".join(f"{len(groups):,} have {how}" for how, groups in found.items() if groups)
        raise DataError(
            f"{where}: of images with the same content, {counts}\n{shown(lines)}\n"
            "dataset.duplicates=drop leaves copies out, warn keeps them"
        )
    if recipe.duplicates == "warn":
        for how, groups in found.items():
            if groups:
                names = some([_pair(group) for group in groups])
                once(
                    log.warning,
                    f"{where}: {counted(len(groups), 'image')} with {how}: {names} "
                    "(dataset.duplicates=drop leaves copies out)",
                )
    if recipe.duplicates != "drop" or not copied:
        return list(files)
    chosen = {_first(group).path for group in same.values() if len(_labels(group)) <= 1}
    left = [file.path for file in files if file.path not in chosen]
    all_of = f", and all copies of {len(differing):,} images with more than one label" if differing else ""
    text = f"{where}: {counted(len(left), 'image')} left out, copies of others{all_of}: {some(left)}"
    once(log.warning, text)
    return [file for file in files if file.path in chosen]


def _labels(group: Sequence[ImageFile]) -> set[str]:
    return {file.label for file in group if file.split != UNLABELED}


def _first(group: Sequence[ImageFile]) -> ImageFile:
    return min(group, key=lambda file: (KEPT.index(file.split) if file.split else 0, file.path))


def _pair(group: Sequence[ImageFile]) -> str:
    """The names of two copies that differ in label or split."""
    first = group[0]
    other = next(file for file in group if (file.label, file.split) != (first.label, first.split))
    labels = f" ({first.label}, {other.label})" if len(_labels([first, other])) > 1 else ""
    return f"{first.path} = {other.path}{labels}"
