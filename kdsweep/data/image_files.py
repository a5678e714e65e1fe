"""Data sets of image files: list them, know their content, decode them once, split them."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path

import numpy as np

from kdsweep.config import ImageCsv, ImageFolder
from kdsweep.data.listing import ImageFile, list_folders, shown
from kdsweep.data.pixels import DECODING, Pixels, content_digests, decoded
from kdsweep.data.split import Contents, Split, stratified_split
from kdsweep.data.table import list_table
from kdsweep.errors import DataError
from kdsweep.stage import digest
from kdsweep.store import Store

log = logging.getLogger(__name__)

Recipe = ImageFolder | ImageCsv


def read_image_files(recipe: Recipe, store: Store) -> Contents:
    """The images that `recipe` describes, each split in the order of their digests: as good as shuffled.

    Raises DataError for files that are missing, unreadable or leave a class without images.
    """
    files = list_table(recipe) if isinstance(recipe, ImageCsv) else list_folders(recipe)
    files.sort(key=lambda file: file.path)
    classes = tuple(sorted({file.label for file in files}))
    splits = {file.split for file in files}
    _check_classes(recipe, files, splits, classes)

    root, paths = Path(recipe.root).expanduser(), [file.path for file in files]
    digests = dict(zip(paths, content_digests(root, paths, store), strict=True))
    contents = {content: path for path, content in digests.items()}
    pixels = decoded(root, contents, recipe.image_size, recipe.resize, store)
    files = _readable(recipe, files, digests, pixels.unreadable)
    _check_classes(recipe, files, splits, classes)

    if splits == {None}:
        files = _draw_test(recipe, files)
    files.sort(key=lambda file: (digests[file.path], file.path))
    return _contents(recipe, files, digests, classes, pixels)


def _check_classes(
    recipe: Recipe, files: Sequence[ImageFile], splits: Set[str | None], classes: Sequence[str]
) -> None:
    """Two classes at least, and images of each in every split that there is."""
    if len(classes) < 2:
        raise DataError(
            f"dataset.root={recipe.root}: one class, {classes[0]}, with {len(files)} images; two are needed "
            "(perhaps the root is a folder further down)"
        )
    counts = Counter((file.split, file.label) for file in files)
    ordered = [split for split in ("train", "val", "test", None) if split in splits]
    lines = []
    for name in classes:
        if not all(counts[split, name] for split in ordered):
            numbers = [f"{split or 'images'} {counts[split, name]}" for split in ordered]
            lines.append(f"{name}: {', '.join(numbers)}")
    if lines:
        raise DataError(
            f"dataset.root={recipe.root}: {len(lines)} of {len(classes)} classes lack readable images, which "
            f"each needs in every split\n{shown(lines)}"
        )


def _readable(
    recipe: Recipe,
    files: list[ImageFile],
    digests: Mapping[str, str],
    unreadable: Mapping[str, str],
) -> list[ImageFile]:
    """The files without those that could not be decoded, which are told of or refused."""
    bad = [file.path for file in files if digests[file.path] in unreadable]
    if not bad:
        return files
    message = f"dataset.root={recipe.root}: {len(bad):,} of {len(files):,} images cannot be read"
    reasons = shown([f"{path}: {unreadable[digests[path]]}" for path in bad])
    if recipe.on_corrupt == "refuse":
        raise DataError(f"{message}\n{reasons}\ndataset.on_corrupt=skip goes on without them")
    log.warning("%s and are left out\n%s", message, reasons)
    return [file for file in files if digests[file.path] not in unreadable]


def _draw_test(recipe: Recipe, files: Sequence[ImageFile]) -> list[ImageFile]:
    """Puts each file into train or test; drawn by paths, so that an edited image stays where it is."""
    _, labels = np.unique([file.label for file in files], return_inverse=True)
    test, train = stratified_split(labels, recipe.test_fraction, recipe.split_seed)
    if not len(test) or not len(train):
        raise DataError(
            f"dataset.test_fraction={recipe.test_fraction} of {len(files)} images leaves {len(test)} to test "
            f"with and {len(train)} to train on; both need one at least"
        )
    drawn = {"train": train, "test": test}
    return [replace(files[index], split=split) for split, part in drawn.items() for index in part]


def _contents(
    recipe: Recipe,
    files: Sequence[ImageFile],
    digests: Mapping[str, str],
    classes: tuple[str, ...],
    pixels: Pixels,
) -> Contents:
    """The splits in the order of `files`, and what tells their content."""
    index = {name: number for number, name in enumerate(classes)}
    of = {split: [file for file in files if file.split == split] for split in ("train", "val", "test")}

    def split(name: str) -> Split:
        rows = [pixels.rows[digests[file.path]] for file in of[name]]
        labels = [index[file.label] for file in of[name]]
        return Split(pixels.images, np.array(rows, np.int64), np.array(labels, np.int64))

    def fingerprint(*names: str) -> str:
        told = {name: [(file.label, digests[file.path]) for file in of[name]] for name in names}
        how = {"image_size": recipe.image_size, "resize": recipe.resize, "decoding": DECODING}
        return digest({"images": told, **how})

    return Contents(
        classes,
        train=split("train"),
        val=split("val") if of["val"] else None,
        test=split("test"),
        fingerprint=fingerprint("train", "val"),
        test_fingerprint=fingerprint("test"),
    )
