"""The image files of a data set with a folder per class: their classes and splits."""

import logging
import os
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, NamedTuple

from kdsweep.data.files.names import SPLIT_OF, SPLITS, litter, meant, printable
from kdsweep.errors import DataError
from kdsweep.system.progress import once

if TYPE_CHECKING:
    from kdsweep.config import ImageFolder

log = logging.getLogger(__name__)

SUFFIXES = (".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif",
            ".tiff", ".webp")  # fmt: skip
SHOWN = 10  # of a list of mistakes

Identity = tuple[int, int]  # of a folder, by whatever links it is reached: device and inode


@dataclass(frozen=True)
class ImageFile:
    path: str  # below the data set's root, with slashes
    label: str  # the name of its class
    split: str | None  # train, val, test or, without a label, unlabeled; None: to be drawn


class _Below(NamedTuple):
    path: str  # below the folder that is walked, with slashes
    folder: Identity  # that the file lies in
    linked: bool  # whether a link led there


@dataclass
class PassedOver:
    """What a walk leaves out and a person should know about; and a folder that it leaves out without a word,
    `apart`, because it has another use."""

    litter: Counter[str] = field(default_factory=Counter)
    links: list[str] = field(default_factory=list)
    apart: Identity | None = None

    def warn(self, root: object) -> None:
        if self.litter:
            counts = ", ".join(f"{count:,} {name}" for name, count in sorted(self.litter.items()))
            once(log.warning, f"{root}: left out what programs left behind: {counts}")
        if self.links:
            links = f"{counted(len(self.links), 'link')} to folders already listed: {some(self.links)}"
            once(log.warning, f"{root}: left out {links}")


def list_folders(recipe: "ImageFolder") -> list[ImageFile]:
    """The images in a folder per class, below folders of the splits or right below the root.

    Raises DataError if a folder is missing or empty.
    """
    root = Path(recipe.root).expanduser()
    if not root.is_dir():
        raise DataError(f"dataset.root={recipe.root}: no such folder\n{_expected(recipe)}")
    passed = PassedOver(apart=_apart(recipe))
    names = _folders(root, passed)
    folders = _split_folders(recipe, root, names)
    if "train" in folders:
        _check_splits(recipe, folders)
        _warn_of_others(recipe, names, folders)
        found = [
            each for split in folders for each in _list_classes(recipe, root, folders[split], split, passed)
        ]
    else:
        _check_no_split_stands_alone(recipe, names)
        found = list(_list_classes(recipe, root, ".", None, passed))
    # a link from one class into another would list the other's images under both
    direct = {below.folder for _, below in found if not below.linked}
    files = [file for file, below in found if not below.linked or below.folder not in direct]
    twice = {file.path for file, _ in found}.difference(file.path for file in files)
    passed.links += sorted({str((root / path).parent) for path in twice})
    passed.warn(f"dataset.root={recipe.root}")
    return files


def files_below(folder: Path, passed: PassedOver | None = None) -> Iterator[str]:
    """The paths of the files at any depth below a folder, with slashes; each once, though links form circles.

    Hidden files, and files that programs leave behind, are left out.
    """
    return (below.path for below in _walk(folder, passed or PassedOver()))


def is_image(path: str) -> bool:
    """Whether a file's suffix is that of an image; decoding shows whether it can be read."""
    return PurePath(path).suffix.lower() in SUFFIXES


def shown(lines: list[str]) -> str:
    """The first lines, indented, and how many more there are."""
    rest = [f"and {len(lines) - SHOWN:,} more"] if len(lines) > SHOWN else []
    return "\n".join(f"  {line}" for line in [*map(printable, lines[:SHOWN]), *rest])


def some(names: Sequence[str], few: int = 3) -> str:
    """The first few names, and how many more there are, in one line."""
    rest = [f"and {len(names) - few:,} more"] if len(names) > few else []
    return ", ".join([*map(printable, names[:few]), *rest])


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("s" if number != 1 else "")


def _walk(folder: Path, passed: PassedOver) -> Iterator[_Below]:
    """Walk folders before links to folders, so that files are found at their own place; each folder once."""
    seen = _above(folder)
    pending = deque([(str(folder), "", False)])
    while pending:
        parent, below, linked = pending.popleft()
        identity = _identity(parent)
        if below and identity == passed.apart:
            continue
        if linked and identity in seen:
            passed.links.append(parent)
            continue
        seen.add(identity)
        folders = []
        for entry in _entries(parent, passed):
            path = f"{below}/{entry.name}" if below else entry.name
            if not _is_folder(entry):
                yield _Below(path, identity, linked)
            elif linked or entry.is_symlink():
                pending.append((entry.path, path, True))
            else:
                folders.append((entry.path, path, False))
        pending.extendleft(folders)


def _entries(folder: str | Path, passed: PassedOver) -> Iterator[os.DirEntry[str]]:
    """The entries of a folder by name, without hidden ones and litter."""
    try:
        with os.scandir(folder) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{printable(error.filename)}: cannot be read ({error.strerror})") from error
    for entry in ordered:
        if name := litter(entry.name):
            passed.litter[name] += 1
        elif not entry.name.startswith("."):
            yield entry


def _apart(recipe: "ImageFolder") -> Identity | None:
    """The folder of unlabelled images, which may lie among those of the classes."""
    folder = recipe.unlabeled and Path(recipe.unlabeled).expanduser()
    return _identity(folder) if folder and folder.is_dir() else None


def _folders(folder: Path, passed: PassedOver) -> list[str]:
    """The folders right below a folder, by name, without links that form a circle."""
    above, names = _above(folder) | {_identity(folder)}, []
    for entry in _entries(folder, passed):
        if _is_folder(entry):
            if entry.is_symlink() and _identity(entry.path) in above:
                passed.links.append(entry.path)
            elif passed.apart is None or _identity(entry.path) != passed.apart:
                names.append(entry.name)
    return names


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _identity(folder: str | Path) -> Identity:
    try:
        status = Path(folder).stat()
    except OSError as error:
        raise DataError(f"{printable(str(folder))}: cannot be read ({error.strerror})") from error
    return status.st_dev, status.st_ino


def _above(folder: Path) -> set[Identity]:
    """The folders above this one, on its path as written and as links resolve it."""
    return {_identity(parent) for path in (folder.absolute(), folder.resolve()) for parent in path.parents}


def _split_folders(recipe: "ImageFolder", root: Path, names: list[str]) -> dict[str, str]:
    """The folder of each split that has one: by the config's name, or by another usual name of the split."""
    wanted = {"train": recipe.train_folder, "val": recipe.val_folder, "test": recipe.test_folder}
    folders = {split: folder for split, folder in wanted.items() if (root / folder).is_dir()}
    for split, folder in wanted.items():
        if split not in folders and folder.casefold() in SPLITS[split]:
            same = [
                name for name in names if name.casefold() in SPLITS[split] and name not in folders.values()
            ]
            if same:
                folders[split] = min(same, key=lambda name: SPLITS[split].index(name.casefold()))
    return {split: folders[split] for split in wanted if split in folders}


def _list_classes(
    recipe: "ImageFolder", root: Path, folder: str, split: str | None, passed: PassedOver
) -> Iterator[tuple[ImageFile, _Below]]:
    names = {name: printable(name) for name in _folders(root / folder, passed)}
    if not names:
        where = f"dataset.root={recipe.root}" if split is None else str(root / folder)
        raise DataError(f"{where}: holds no folders\n{_expected(recipe)}")
    wanted = set(names.values())
    if recipe.classes is not None:
        wanted = {label for each in recipe.classes for label in meant(each, list(names.values()))}
    empty = []
    for name, label in names.items():
        below = PurePath(folder) / name
        files = list(_walk(root / below, passed))
        images = [file for file in files if is_image(file.path)]
        yield from ((ImageFile((below / file.path).as_posix(), label, split), file) for file in images)
        if not images and label in wanted:
            empty.append(f"{below.as_posix()}: 0 images, {len(files)} other files")
    if empty:
        raise DataError(
            f"dataset.root={recipe.root}: {len(empty)} of {len(names)} class folders hold no images; "
            f"delete or fill them (images end in {', '.join(SUFFIXES)})\n{shown(empty)}"
        )


def _warn_of_others(recipe: "ImageFolder", names: list[str], folders: dict[str, str]) -> None:
    used = {PurePath(folder).parts[0] for folder in folders.values()}
    if others := [f"{name}/" for name in names if name not in used]:
        used_are = " ".join(f"dataset.{split}_folder={folder}" for split, folder in folders.items())
        left = (
            f"{counted(len(others), 'folder')} left out, whose names are not those of splits: {some(others)}"
        )
        once(log.warning, f"dataset.root={recipe.root}: {left} ({used_are})")


def _check_splits(recipe: "ImageFolder", folders: dict[str, str]) -> None:
    """Refuse training images without test images, and a folder that serves two splits."""
    if len({PurePath(folder) for folder in folders.values()}) < len(folders):
        twice = ", ".join(f"dataset.{split}_folder={folder}" for split, folder in folders.items())
        raise DataError(f"{twice}: each split needs a folder of its own")
    if "test" in folders:
        return
    message = (
        f"dataset.root={recipe.root}: has {' and '.join(f'{folder}/' for folder in folders.values())} "
        f"but no {recipe.test_folder}/ with the test images (dataset.test_folder={recipe.test_folder})"
    )
    if "val" in folders:
        message += (
            f"\ndataset.test_folder={folders['val']} dataset.val_folder=none takes {folders['val']}/ for the "
            "test split; validation images are then drawn from the training images"
        )
    raise DataError(message)


def _check_no_split_stands_alone(recipe: "ImageFolder", names: list[str]) -> None:
    """Refuse a folder named like another split if there is none for training: it is not a class."""
    splits = {*SPLIT_OF, recipe.val_folder.casefold(), recipe.test_folder.casefold()}
    if alone := [name for name in names if name.casefold() in splits]:
        raise DataError(
            f"dataset.root={recipe.root}: has {', '.join(alone)} but no {recipe.train_folder}; the folders "
            "of splits are named by dataset.train_folder, dataset.val_folder and dataset.test_folder\n"
            f"The root has the folders {', '.join(map(printable, names))}" + _to_train_without(recipe)
        )


def _to_train_without(recipe: "ImageFolder") -> str:
    """What to do if only unlabelled images are there to learn from."""
    if recipe.unlabeled is None:
        return ""
    return (
        f"\nIf {recipe.unlabeled} is all there is to learn from: dataset.train_folder={recipe.val_folder} "
        "dataset.val_folder=none dataset.unlabeled_share=1 alpha=0 baseline=false, with a trained teacher"
    )


def _expected(recipe: "ImageFolder") -> str:
    return (
        f"Expected in {Path(recipe.root).expanduser().absolute()}: {recipe.train_folder}/, "
        f"{recipe.test_folder}/ and perhaps {recipe.val_folder}/, each with a folder of images per class; "
        "or only a folder of images per class"
    )
