"""The files of images without labels, which lie beside the labelled ones or elsewhere."""

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path, PurePath

from kdsweep.config import ImageDataset
from kdsweep.data.files.folders import (
    SUFFIXES,
    Identity,
    ImageFile,
    PassedOver,
    counted,
    files_below,
    is_image,
)
from kdsweep.data.split import UNLABELED
from kdsweep.errors import DataError


def list_unlabeled(recipe: ImageDataset, labeled: Sequence[ImageFile]) -> list[ImageFile]:
    """The images at any depth in the folder of unlabelled ones, by their paths from the root, without those
    files that are `labeled`; empty if no such folder is wanted.

    Raises DataError if it is missing or has no such image.
    """
    if recipe.unlabeled is None:
        return []
    root, folder = (Path(each).expanduser() for each in (recipe.root, recipe.unlabeled))
    where = f"dataset.unlabeled={recipe.unlabeled}"
    if not folder.is_dir():
        raise DataError(f"{where}: no such folder; expected a folder of images in {folder.absolute()}")
    passed = PassedOver()
    files = list(files_below(folder, passed))
    passed.warn(where)
    images = [path for path in files if is_image(path)]
    if not images:
        endings = ", ".join(SUFFIXES)
        raise DataError(f"{where}: 0 images, {len(files)} other files (images end in {endings})")
    above = os.path.relpath(folder.resolve(), root.resolve())
    found = [ImageFile((PurePath(above) / path).as_posix(), "", UNLABELED) for path in images]
    known = _identities(root, labeled)
    free = [file for file in found if not _identities(root, [file]) & known]
    if not free:
        raise DataError(f"{where}: {counted(len(found), 'image')}, all of them with labels in {recipe.root}")
    return free


def _identities(root: Path, files: Iterable[ImageFile]) -> set[Identity]:
    """What identifies files, by whatever links they are reached; broken links have nothing."""
    found = set()
    for file in files:
        with suppress(OSError):
            status = (root / file.path).stat()
            found.add((status.st_dev, status.st_ino))
    return found
