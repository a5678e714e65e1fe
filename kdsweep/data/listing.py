"""Which image files there are, of which class and in which split, when a folder stands for each class."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from kdsweep.errors import DataError

if TYPE_CHECKING:
    from kdsweep.config import ImageFolder

SUFFIXES = (".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif",
            ".tiff", ".webp")  # fmt: skip
SHOWN = 10  # of a list of mistakes


@dataclass(frozen=True)
class ImageFile:
    path: str  # below the data set's root, with slashes
    label: str  # the name of its class
    split: str | None  # train, val or test; None: to be drawn


def list_folders(recipe: "ImageFolder") -> list[ImageFile]:
    """The images of a folder per class, below folders of the splits or right below the root.

    Raises DataError where a folder is missing or empty.
    """
    root = Path(recipe.root).expanduser()
    folders = {"train": recipe.train_folder, "val": recipe.val_folder, "test": recipe.test_folder}
    if not root.is_dir():
        raise DataError(f"dataset.root={recipe.root}: no such folder\n{_expected(recipe)}")
    if not (root / recipe.train_folder).is_dir():
        _check_no_split_stands_alone(recipe, root)
        return _list_classes(recipe, root, ".", None)
    there = {split: folder for split, folder in folders.items() if (root / folder).is_dir()}
    _check_splits(recipe, there)
    return [file for split, folder in there.items() for file in _list_classes(recipe, root, folder, split)]


def files_below(folder: Path) -> Iterator[str]:
    """The paths of the files at any depth below a folder, with slashes; hidden ones are passed over."""

    def fail(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from error

    for parent, folders, files in os.walk(folder, onerror=fail, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = PurePath(parent).relative_to(folder).as_posix()
        prefix = "" if below == "." else f"{below}/"
        yield from (prefix + name for name in files if not name.startswith("."))


def is_image(path: str) -> bool:
    """By its suffix; whether it can be read is seen when it is decoded."""
    return PurePath(path).suffix.lower() in SUFFIXES


def shown(lines: list[str]) -> str:
    """The first of these lines, indented, and how many more there are."""
    rest = [f"and {len(lines) - SHOWN:,} more"] if len(lines) > SHOWN else []
    return "\n".join(f"  {line}" for line in lines[:SHOWN] + rest)


def _list_classes(recipe: "ImageFolder", root: Path, folder: str, split: str | None) -> list[ImageFile]:
    classes = sorted(
        path.name for path in (root / folder).iterdir() if path.is_dir() and not path.name.startswith(".")
    )
    if not classes:
        where = f"dataset.root={recipe.root}" if split is None else str(root / folder)
        raise DataError(f"{where}: holds no folders\n{_expected(recipe)}")
    listed, empty = [], []
    for name in classes:
        below = PurePath(folder) / name
        files = list(files_below(root / below))
        images = [path for path in files if is_image(path)]
        listed += [ImageFile((below / path).as_posix(), name, split) for path in images]
        if not images:
            empty.append(f"{below.as_posix()}: 0 images, {len(files)} other files")
    if empty:
        raise DataError(
            f"dataset.root={recipe.root}: {len(empty)} of {len(classes)} folders of classes hold no images; "
            f"delete or fill them (images end in {', '.join(SUFFIXES)})\n{shown(empty)}"
        )
    return listed


def _check_splits(recipe: "ImageFolder", there: dict[str, str]) -> None:
    """Training images have a folder; so need the test images, and no folder may serve twice."""
    if len({PurePath(folder) for folder in there.values()}) < len(there):
        twice = ", ".join(f"dataset.{split}_folder={folder}" for split, folder in there.items())
        raise DataError(f"{twice}: each split needs a folder of its own")
    if "test" in there:
        return
    message = (
        f"dataset.root={recipe.root}: has {' and '.join(f'{folder}/' for folder in there.values())} "
        f"but no {recipe.test_folder}/, the test images (dataset.test_folder={recipe.test_folder})"
    )
    if "val" in there:
        message += (
            f"\ndataset.test_folder={there['val']} dataset.val_folder=none takes {there['val']}/ for the "
            "test split; validation images are then drawn from the training images"
        )
    raise DataError(message)


def _check_no_split_stands_alone(recipe: "ImageFolder", root: Path) -> None:
    """Without folder for training, a folder named like another split is a slip rather than a class."""
    splits = {recipe.val_folder.casefold(), recipe.test_folder.casefold()}
    names = sorted(path.name for path in root.iterdir() if path.is_dir())
    if alone := [name for name in names if name.casefold() in splits]:
        raise DataError(
            f"dataset.root={recipe.root}: has {', '.join(alone)} but no {recipe.train_folder}; the folders "
            "of splits are named by dataset.train_folder, dataset.val_folder and dataset.test_folder\n"
            f"The folders there: {', '.join(names)}"
        )


def _expected(recipe: "ImageFolder") -> str:
    return (
        f"Expected in {Path(recipe.root).expanduser().absolute()}: {recipe.train_folder}/, "
        f"{recipe.test_folder}/ and perhaps {recipe.val_folder}/, each with a folder of images per class; "
        "or a folder of images per class alone"
    )
