"""Data sets of image files: list them, know their content, decode them once, split them."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kdsweep.config import ImageCsv, ImageFolder
from kdsweep.data.files.duplicates import without_duplicates
from kdsweep.data.files.folders import ImageFile, counted, list_folders, shown, some
from kdsweep.data.files.names import alike, in_order, meant
from kdsweep.data.files.pixels import Pixels, content_digests, decoded
from kdsweep.data.files.table import list_table
from kdsweep.data.files.unlabeled import list_unlabeled
from kdsweep.data.split import UNLABELED, Contents, Split, grouped_split
from kdsweep.errors import DataError
from kdsweep.stage import digest
from kdsweep.store.store import Store
from kdsweep.system.progress import once

log = logging.getLogger(__name__)

Recipe = ImageFolder | ImageCsv


def read_image_files(recipe: Recipe, store: Store) -> Contents:
    """The images that `recipe` describes, each split in the order of digests, as good as shuffled.

    Raises DataError if files are missing or unreadable, or leave a class without images.
    """
    listed = list_table(recipe) if isinstance(recipe, ImageCsv) else list_folders(recipe)
    listed.sort(key=lambda file: file.path)
    classes = _classes(recipe, listed)
    files = [file for file in listed if file.label in classes]
    splits = {file.split for file in files}
    _check_classes(recipe, files, splits, classes)
    unlabeled = list_unlabeled(recipe, listed)

    files, digests, pixels = _decoded(recipe, files, store)
    apart = None
    if unlabeled:  # an entry of their own: they are many, and change neither range nor row of the labelled
        deep = pixels.deep_range if pixels.deep else None
        unlabeled, others, apart = _decoded(recipe, unlabeled, store, deep)
        digests |= others
    files = without_duplicates(recipe, [*files, *unlabeled], digests)
    unlabeled = [file for file in files if file.split == UNLABELED]
    files = [file for file in files if file.split != UNLABELED]
    _check_classes(recipe, files, splits, classes)
    if apart and not unlabeled:
        raise DataError(
            f"dataset.unlabeled={recipe.unlabeled}: has no readable image but copies of labelled ones"
        )

    if splits == {None}:
        files = _draw_test(recipe, files, digests)
    _warn_of_pixels(recipe, files, digests, pixels)
    if apart:
        _warn_of_pixels(recipe, unlabeled, digests, apart)
    files = sorted([*files, *unlabeled], key=lambda file: (digests[file.path], file.path))
    return _contents(recipe, files, digests, classes, pixels, apart)


def _decoded(
    recipe: Recipe, files: list[ImageFile], store: Store, deep: tuple[int, int] | None = None
) -> tuple[list[ImageFile], dict[str, str], Pixels]:
    """The readable ones of the files, the digests of their contents by path, and their pixels."""
    root = Path(recipe.root).expanduser()
    digests, unreadable = content_digests(root, [file.path for file in files], store)
    pixels = decoded(root, {content: path for path, content in digests.items()}, recipe, store, deep)
    unreadable |= {
        path: pixels.unreadable[content] for path, content in digests.items() if content in pixels.unreadable
    }
    return _readable(recipe, files, unreadable), digests, pixels


def _classes(recipe: Recipe, files: Sequence[ImageFile]) -> tuple[str, ...]:
    """The classes in order; an order other than by letters is printed."""
    names = in_order(file.label for file in files)
    classes = names if recipe.classes is None else _chosen(recipe, recipe.classes, names)
    by_letters = classes == tuple(sorted(classes))
    once(log.info if by_letters else print, f"  classes of {recipe.name}, in order: {some(classes, 20)}")
    for similar in alike(classes):
        counts = Counter(file.label for file in files)
        listed = ", ".join(f"{name!r} ({counts[name]:,})" for name in similar)
        once(log.warning, f"dataset.root={recipe.root}: classes with nearly equal names: {listed}")
    return classes


def _chosen(recipe: Recipe, wanted: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """The classes that `dataset.classes` names. Raises DataError if one does not exist."""
    classes: list[str] = []
    for name in wanted:
        same = meant(name, names)
        if len(same) != 1 or same[0] in classes:
            fault = "no such class" if not same else "named twice" if len(same) == 1 else "means several"
            raise DataError(f"dataset.classes: {name}: {fault}; allowed, each once: {', '.join(names)}")
        classes += same
    return tuple(classes)


def _warn_of_pixels(
    recipe: Recipe, files: Sequence[ImageFile], digests: Mapping[str, str], pixels: Pixels
) -> None:
    """Explain how transparent images and images of 16 bits were decoded."""
    transparent, deep = (
        [file.path for file in files if digests[file.path] in which]
        for which in (pixels.transparent, pixels.deep)
    )
    if transparent:
        onto = f"composed onto {list(recipe.background)} (dataset.background)"
        images = counted(len(transparent), "transparent image")
        once(log.warning, f"dataset.root={recipe.root}: {images} {onto}: {some(transparent)}")
    if deep:
        low, high = pixels.deep_range
        scaled = f"of 16 bits scaled by the range of their values, {low} to black, {high} to white"
        images = counted(len(deep), "image")
        once(log.warning, f"dataset.root={recipe.root}: {images} {scaled}: {some(deep)}")


def _check_classes(
    recipe: Recipe, files: Sequence[ImageFile], splits: Set[str | None], classes: Sequence[str]
) -> None:
    """Refuse a single class, and a class without images in one of the splits."""
    if len(classes) < 2:
        raise DataError(
            f"dataset.root={recipe.root}: only one class, {classes[0]}, with {len(files)} images; at least "
            "two are needed (perhaps the root should be a folder further down)"
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
            f"dataset.root={recipe.root}: {len(lines)} of {len(classes)} classes lack readable images in one "
            f"of the splits\n{shown(lines)}"
        )


def _readable(recipe: Recipe, files: list[ImageFile], unreadable: Mapping[str, str]) -> list[ImageFile]:
    """The files that could be read and decoded; the others are refused, or a warning lists them."""
    bad = [file.path for file in files if file.path in unreadable]
    if not bad:
        return files
    of_others = files[0].split == UNLABELED
    where = f"dataset.unlabeled={recipe.unlabeled}" if of_others else f"dataset.root={recipe.root}"
    message = f"{where}: {len(bad):,} of {len(files):,} images cannot be read"
    reasons = shown([f"{path}: {unreadable[path]}" for path in bad])
    if recipe.on_corrupt == "refuse":
        raise DataError(f"{message}\n{reasons}\ndataset.on_corrupt=skip leaves them out")
    log.warning("%s and are left out\n%s", message, reasons)
    return [file for file in files if file.path not in unreadable]


def _draw_test(recipe: Recipe, files: Sequence[ImageFile], digests: Mapping[str, str]) -> list[ImageFile]:
    """Put each file into train or test, drawn by path, so that an edited image stays in its split."""
    _, labels = np.unique([file.label for file in files], return_inverse=True)
    _, copies = np.unique([digests[file.path] for file in files], return_inverse=True)
    test, train = grouped_split(labels, copies, recipe.test_fraction, recipe.split_seed)
    if not len(test) or not len(train):
        raise DataError(
            f"dataset.test_fraction={recipe.test_fraction} of {len(files)} images leaves {len(test)} for "
            f"testing and {len(train)} for training; both need at least one"
        )
    drawn = {"train": train, "test": test}
    return [replace(files[index], split=split) for split, part in drawn.items() for index in part]


def _contents(
    recipe: Recipe,
    files: Sequence[ImageFile],
    digests: Mapping[str, str],
    classes: tuple[str, ...],
    pixels: Pixels,
    apart: Pixels | None,
) -> Contents:
    """The splits in the order of `files`, with the digests of their contents; `apart` are the pixels of
    unlabelled ones."""
    index = {name: number for number, name in enumerate(classes)}
    of = {
        split: [file for file in files if file.split == split]
        for split in ("train", "val", "test", UNLABELED)
    }

    def split(name: str, pixels: Pixels = pixels) -> Split:
        rows = [pixels.rows[digests[file.path]] for file in of[name]]
        labels = [-1 if name == UNLABELED else index[file.label] for file in of[name]]
        paths = np.array([file.path for file in of[name]], np.str_)
        return Split(pixels.images, np.array(rows, np.int64), np.array(labels, np.int64), name, paths)

    def fingerprint(*names: str, pixels: Pixels = pixels) -> str:
        images = {name: [(file.label, digests[file.path]) for file in of[name]] for name in names}
        how: dict[str, Any] = {"image_size": recipe.image_size, "resize": recipe.resize, "decoding": 1}
        # options without effect are left out, so that they do not change the fingerprint
        used = {digests[file.path] for name in names for file in of[name]}
        if names != (UNLABELED,) and classes != tuple(sorted(classes)):
            how["classes"] = classes
        if used & pixels.transparent:
            how["background"] = recipe.background
        if used & pixels.deep and pixels.deep_range != (0, 65535):
            how["deep_range"] = pixels.deep_range
        return digest({"images": images, **how})

    return Contents(
        classes,
        train=split("train"),
        val=split("val") if of["val"] else None,
        test=split("test"),
        fingerprint=fingerprint("train", "val"),
        test_fingerprint=fingerprint("test"),
        deep_range=pixels.deep_range if pixels.deep else None,
        unlabeled=split(UNLABELED, apart) if apart else None,
        unlabeled_fingerprint=fingerprint(UNLABELED, pixels=apart) if apart else None,
    )
