"""Folders of small images, each of a colour that tells its number."""

import io
from pathlib import Path

import pytest
from PIL import Image

from kdsweep.config import Augment
from kdsweep.data import dataset
from kdsweep.data.files import decode
from kdsweep.data.files.decode import Look
from kdsweep.errors import DataError

SIZE = 8


COMMON = {
    "name": "mine", "train_limit": None, "test_limit": None, "val_fraction": 0.25, "split_seed": 0,
    "positive_class": None, "normalize": "unit", "augment": Augment(), "image_size": SIZE, "resize": "squash",
    "on_corrupt": "refuse", "test_fraction": 0.25,
}  # fmt: skip


FOLDERS = {"source": "image_folder", "train_folder": "train", "val_folder": "val", "test_folder": "test"}


def write_image(file: Path, number: int, size: tuple[int, int] = (10, 10), **how: object) -> None:
    """An image of one colour, another for each number."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (number % 256, number // 256 * 20, 77)).save(file, **how)


def write_folder(folder: Path, counts: dict[str, int], first: int = 0) -> None:
    """Folders of classes with that many images, numbered from `first`."""
    for name, count in counts.items():
        for number in range(first, first + count):
            write_image(folder / name / f"{number:03}.png", number)
        first += count


def write_splits(root: Path, **counts: int) -> None:
    """For each split, that many images of bees and of ants, no two of them alike."""
    for place, (split, count) in enumerate(counts.items()):
        write_folder(root / split, {"bee": count, "ant": count}, first=100 * place)


def numbers(split: dataset.Split) -> list[int]:
    """The numbers of the images in a split, in order."""
    return [int(image[0, 0, 0]) + 256 * (int(image[1, 0, 0]) // 20) for image in split.images]


def faults(read, **changes) -> str:
    with pytest.raises(DataError) as error:
        read(**changes)
    return str(error.value)


def encoded(image: Image.Image, form: str = "png", **how: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **how)
    return stream.getvalue()


def colour(image: Image.Image, form: str = "png", **how: object) -> list[int]:
    """The colour of the first pixel of an image that went through a file."""
    return decode.decode(encoded(image, form, **how), Look(4, "squash")).pixels[:, 0, 0].tolist()
