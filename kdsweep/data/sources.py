"""Where images come from: a source knows its classes, and reads its files into arrays."""

import gzip
import importlib.util
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from kdsweep.errors import DataError

Images = NDArray[np.uint8]  # [N, C, H, W]
Labels = NDArray[np.int64]  # [N]


@dataclass(frozen=True)
class Arrays:
    """A data set as its files hold it, before limits and splits."""

    train_images: Images
    train_labels: Labels
    test_images: Images
    test_labels: Labels


@dataclass(frozen=True)
class Source:
    """A data set by name.

    `read(root)` reads the files under `root`; `files` are the paths it needs there, which torchvision's class
    `download` fetches where they are missing.
    """

    classes: tuple[str, ...]
    read: Callable[[Path], Arrays]
    files: tuple[str, ...] = ()
    download: str | None = None


DIGITS = tuple("0123456789")
TRAIN_OF_DIGITS = 0.8


def _read_digits(root: Path) -> Arrays:
    """scikit-learn's digits, read from the installed package without its slow import."""
    package = importlib.util.find_spec("sklearn")
    assert package is not None and package.submodule_search_locations is not None
    file = Path(package.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz"
    table = np.loadtxt(file, delimiter=",", dtype=np.float64)
    images = np.rint(table[:, :64] * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
    labels = table[:, 64].astype(np.int64)
    train, test = stratified_split(labels, TRAIN_OF_DIGITS, seed=0)
    return Arrays(images[train], labels[train], images[test], labels[test])


def _read_idx(folder: str) -> Callable[[Path], Arrays]:
    """The reader of MNIST's file format (Yann LeCun's IDX), raw or gzipped."""

    def read(root: Path) -> Arrays:
        arrays = [_idx(_present(root / folder / name)) for name in IDX_FILES]
        train_images, train_labels, test_images, test_labels = arrays
        if len(train_images) != len(train_labels) or len(test_images) != len(test_labels):
            raise DataError(f"{root / folder}: images and labels differ in number; download the files anew")
        labels = (train_labels.astype(np.int64), test_labels.astype(np.int64))
        return Arrays(train_images[:, None], labels[0], test_images[:, None], labels[1])

    return read


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


def _read_cifar10(root: Path) -> Arrays:
    from torchvision.datasets import CIFAR10

    try:
        splits = [CIFAR10(str(root), train=train) for train in (True, False)]  # checks the files' MD5
    except (RuntimeError, OSError) as error:
        raise DataError(f"{root}/cifar-10-batches-py is damaged; delete it and fetch it anew") from error
    (train_images, train_labels), (test_images, test_labels) = (
        (np.ascontiguousarray(split.data.transpose(0, 3, 1, 2)), np.asarray(split.targets, np.int64))
        for split in splits
    )
    return Arrays(train_images, train_labels, test_images, test_labels)


def _torchvision_idx(name: str, classes: tuple[str, ...]) -> Source:
    folder = f"{name}/raw"
    files = tuple(f"{folder}/{file}" for file in IDX_FILES)
    return Source(classes, _read_idx(folder), files, download=name)


SOURCES = {
    "digits": Source(DIGITS, _read_digits),
    "mnist": _torchvision_idx("MNIST", DIGITS),
    "fashion_mnist": _torchvision_idx(
        "FashionMNIST",
        (
            "T-shirt",
            "trouser",
            "pullover",
            "dress",
            "coat",
            "sandal",
            "shirt",
            "sneaker",
            "bag",
            "ankle boot",
        ),
    ),
    "cifar10": Source(
        ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        _read_cifar10,
        tuple(
            f"cifar-10-batches-py/{name}"
            for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta")
        ),
        download="CIFAR10",
    ),
}


def read(name: str, root: str) -> Arrays:
    """The arrays of the source `name`, downloaded into `root` first where its files are missing.

    Raises DataError if they are neither there nor to be had, or are damaged.
    """
    source = SOURCES[name]
    folder = Path(root).expanduser()
    if _missing(source, folder):
        _download(name, source, folder)
    return source.read(folder)


def _present(file: Path) -> Path:
    return file if file.is_file() else file.with_name(f"{file.name}.gz")


def _missing(source: Source, root: Path) -> list[str]:
    return [file for file in source.files if not _present(root / file).is_file()]


def _download(name: str, source: Source, root: Path) -> None:
    """Fetch by torchvision, which shows the progress; one process at a time."""
    from torchvision import datasets

    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{name}.lock"):
            if _missing(source, root):
                getattr(datasets, str(source.download))(str(root), download=True)
    except (URLError, RuntimeError, OSError, EOFError, tarfile.TarError) as error:
        expected = ", ".join(_missing(source, root)) or "files that are whole"
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(":")
        raise DataError(
            f"dataset.root={root}: {name} is not there and cannot be downloaded ({reason})\n"
            f"Expected in {root.absolute()}: {expected}"
            + (" (raw or .gz)" if source.read is not _read_cifar10 else "")
        ) from error


def stratified_split(labels: Labels, share: float, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices of a part with `share` of all images and of every class, and of the rest, each rising.

    Classes get their share rounded down, and those with the largest rests one more until the whole is right.
    RandomState's stream is frozen by numpy: a seed draws the same split everywhere.
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
