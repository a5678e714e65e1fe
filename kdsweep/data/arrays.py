"""Data sets whose files hold arrays of pixels: each source knows its files and reads them."""

import gzip
import hashlib
import importlib.util
import logging
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.error import URLError

import numpy as np
from filelock import FileLock

from kdsweep.data.split import Contents, Images, Labels, Split
from kdsweep.errors import DataError
from kdsweep.system.foreign_errors import first_line
from kdsweep.system.progress import once

log = logging.getLogger(__name__)


Part = tuple[Images, Labels]
Arrays = tuple[tuple[str, ...], Part, Part]  # the classes, the training part, the test part


@dataclass(frozen=True)
class Source:
    """A data set by name.

    `read(root)` reads the files below `root`; `files` are their paths. torchvision's class `download` fetches
    missing ones. `zipped` says whether they may be .gz.
    """

    read: Callable[[Path], Arrays]
    files: tuple[str, ...] = ()
    download: str | None = None
    zipped: bool = False


DIGITS = tuple("0123456789")
IDX_COUNTS, IDX_SIDE = (60_000, 10_000), 28  # images for training and for testing, and their side in pixels
SHEETS_OF_DIGITS = (slice(0, 906), slice(906, 1797))  # for training, for testing: seven sheets each


def _read_digits(root: Path) -> Arrays:
    """scikit-learn's digits, read from the installed package without its slow import.

    They come sheet by sheet, with about the same 130 digits in one person's hand each. Test sheets are not
    training sheets: otherwise networks would be tested on handwriting that they know.
    """
    package = importlib.util.find_spec("sklearn")
    assert package is not None and package.submodule_search_locations is not None
    file = Path(package.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz"
    table = np.loadtxt(file, delimiter=",", dtype=np.float64)
    images = np.rint(table[:, :64] * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
    labels = table[:, 64].astype(np.int64)
    train, test = SHEETS_OF_DIGITS
    return DIGITS, (images[train], labels[train]), (images[test], labels[test])


def _read_idx(folder: Path, classes: tuple[str, ...]) -> Arrays:
    """Files in MNIST's format (LeCun's IDX), raw or gzipped, without torchvision's slow import."""
    train_images, train_labels, test_images, test_labels = (
        _idx(_present(folder / name)) for name in IDX_FILES
    )
    _check_idx(folder, train_images, train_labels, classes)
    _check_idx(folder, test_images, test_labels, classes)
    counts = len(train_images), len(test_images)
    if counts != IDX_COUNTS:
        images = "{} and {} images, not {} and {}".format(*counts, *IDX_COUNTS)
        once(log.warning, f"{folder}: has {images}: a part of the data set, or another one")
    train = train_images[:, None], train_labels.astype(np.int64)
    return classes, train, (test_images[:, None], test_labels.astype(np.int64))


def _check_idx(folder: Path, images: Images, labels: Images, classes: tuple[str, ...]) -> None:
    """Refuse files of other data sets, such as EMNIST, which have the same names and format."""
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
        raise DataError(f"{folder}: images and labels differ in number; download the files anew")
    wrong = ""
    if images.shape[1:] != (IDX_SIDE, IDX_SIDE):
        wrong = f"images of {' by '.join(map(str, images.shape[1:]))} pixels, not {IDX_SIDE} by {IDX_SIDE}"
    elif len(labels) and labels.max() >= len(classes):
        wrong = f"labels up to {labels.max()}, but there are {len(classes)} classes"
    if wrong:
        raise DataError(
            f"{folder}: has {wrong}: the files belong to another data set (EMNIST, perhaps); delete them to "
            "download the right ones"
        )


IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def _idx(file: Path) -> Images:
    try:
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        kind, dimensions = content[2], content[3]
        shape = np.frombuffer(content, ">u4", dimensions, offset=4)
        if kind != 8 or content[:2] != b"\0\0":
            raise ValueError("not an IDX file of bytes")
        return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
    except (OSError, EOFError, ValueError, IndexError, zlib.error) as error:
        raise DataError(f"{file} cannot be read ({error}); delete it and fetch it anew") from error


def _read_cifar(root: Path, name: str, folder: str) -> Arrays:
    """Files that torchvision's class `name` reads; they name the classes (the fine ones of CIFAR-100)."""
    from torchvision import datasets

    try:  # torchvision checks the files' MD5
        train, test = (getattr(datasets, name)(str(root), train=train) for train in (True, False))
    except (RuntimeError, OSError) as error:
        raise DataError(f"{root / folder} is damaged; delete it and fetch it anew") from error
    parts = [
        (np.ascontiguousarray(split.data.transpose(0, 3, 1, 2)), np.asarray(split.targets, np.int64))
        for split in (train, test)
    ]
    return tuple(train.classes), parts[0], parts[1]


def _mnist(name: str, classes: tuple[str, ...]) -> Source:
    folder = f"{name}/raw"
    files = tuple(f"{folder}/{file}" for file in IDX_FILES)
    return Source(lambda root: _read_idx(root / folder, classes), files, download=name, zipped=True)


def _cifar(name: str, folder: str, files: tuple[str, ...]) -> Source:
    paths = tuple(f"{folder}/{file}" for file in files)
    return Source(lambda root: _read_cifar(root, name, folder), paths, download=name)


SOURCES = {
    "digits": Source(_read_digits),
    "mnist": _mnist("MNIST", DIGITS),
    "fashion_mnist": _mnist(
        "FashionMNIST",
        (
            *("T-shirt", "trouser", "pullover", "dress", "coat"),
            *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
        ),
    ),
    "cifar10": _cifar(
        "CIFAR10",
        "cifar-10-batches-py",
        (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"),
    ),
    "cifar100": _cifar("CIFAR100", "cifar-100-python", ("train", "test", "meta")),
}


@lru_cache(maxsize=1)
def read_arrays(name: str, root: str) -> Contents:
    """The data of the source `name`, read once per process; missing files are downloaded into `root` first.

    Raises DataError if files are damaged, or missing and cannot be downloaded.
    """
    source = SOURCES[name]
    folder = Path(root).expanduser()
    if missing(name, folder):
        _download(name, source, folder)
    classes, train, test = source.read(folder)
    parts = [_whole(name, *part) for name, part in (("train", train), ("test", test))]
    return Contents(classes, parts[0], None, parts[1], _digest(*train), _digest(*test))


def _whole(name: str, images: Images, labels: Labels) -> Split:
    return Split(images, np.arange(len(images)), labels, name)


def _digest(images: Images, labels: Labels) -> str:
    content = hashlib.sha256()
    for array in (images, labels):
        content.update(str((array.dtype.name, array.shape)).encode())
        content.update(np.ascontiguousarray(array).data)
    return content.hexdigest()[:32]


def _present(file: Path) -> Path:
    return file if file.is_file() else file.with_name(f"{file.name}.gz")


def missing(name: str, root: Path) -> list[str]:
    """The missing files of the source `name`, which would be downloaded."""
    return [file for file in SOURCES[name].files if not _present(root / file).is_file()]


def _download(name: str, source: Source, root: Path) -> None:
    """Download by torchvision, which shows the progress; one process at a time."""
    from torchvision import datasets

    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{name}.lock"):
            if missing(name, root):
                getattr(datasets, str(source.download))(str(root), download=True)
    except (URLError, RuntimeError, OSError, EOFError, tarfile.TarError) as error:
        expected = ", ".join(missing(name, root)) or "complete files"
        why = first_line(error).rstrip(":")
        raise DataError(
            f"dataset.root={root}: {name} is missing and cannot be downloaded ({why})\n"
            f"Expected in {root.absolute()}: {expected}" + (" (raw or .gz)" if source.zipped else "")
        ) from error
