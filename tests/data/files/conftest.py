"""Data sets of image files, loaded as if in a new process."""

from pathlib import Path

import pytest
from image_files import COMMON, FOLDERS

from kdsweep.config import ImageCsv, ImageFolder
from kdsweep.data import dataset
from kdsweep.data.dataset import load
from kdsweep.store.store import Store
from kdsweep.system import progress


@pytest.fixture(autouse=True)
def nothing_cached():
    dataset._load.cache_clear()


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "images"


@pytest.fixture
def read(tmp_path, root):
    """Loads the data set in `root` as if in a new process, unless its images are kept in the store."""

    def read(root: Path = root, **changes):
        dataset._load.cache_clear()
        progress.once.cache_clear()
        kind = ImageCsv if changes.get("source") == "image_csv" else ImageFolder
        layout = {} if kind is ImageCsv else FOLDERS
        return load(kind(**{**COMMON, **layout, "root": str(root), **changes}), Store(tmp_path / "store"))

    return read
