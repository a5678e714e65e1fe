"""The store's entries about image files: digests of their content, and their pixels.

The digests depend on where files lie and when they were written, the pixels only on their content. So files
that were touched or moved are read again, but not decoded again.
"""

import errno
import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import TypeVar

import numpy as np

from kdsweep.config import ImageDataset
from kdsweep.config.hardware import cores
from kdsweep.data.files.names import printable
from kdsweep.data.split import Images
from kdsweep.errors import DataError
from kdsweep.stage import digest
from kdsweep.store.origin import Origin
from kdsweep.store.store import Store
from kdsweep.system.files import sha256
from kdsweep.system.terminal import progress

# Increase this when a change of the code gives other pixels for the same files, or other facts about them.
# The keys of stages still contain 1 (read.py): 2 differs only for transparent images and those of 16 bits.
DECODING = 2
READERS = 8  # threads that read files: a disk or a network serves several at a time

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Pixels:
    images: Images  # uint8 [M, 3, S, S], memory-mapped
    rows: Mapping[str, int]  # by content digest
    unreadable: Mapping[str, str]  # errors, by content digest
    transparent: frozenset[str]  # content digests of images that were composed onto the background
    deep: frozenset[str]  # of those of 16 bits whose range the format leaves open
    deep_range: tuple[int, int]  # the values that became 0 and 255 in those


def content_digests(root: Path, paths: Sequence[str], store: Store) -> tuple[dict[str, str], dict[str, str]]:
    """The SHA-256 of each file by path, and the errors of unreadable files.

    Files with unchanged path, size and time are not read again.
    """
    unreadable: dict[str, str] = {}
    listing: list[tuple[str, int, int]] = []
    for path in paths:
        try:
            status = (root / path).stat()
        except OSError as error:
            unreadable[path] = error.strerror or str(error)
            continue
        if S_ISREG(status.st_mode):
            listing.append((path, status.st_size, status.st_mtime_ns))
        else:  # reading a pipe would wait for its writer
            unreadable[path] = "not a regular file"
    files = [root / path for path, *_ in listing]

    def make(folder: Path) -> None:
        task = f"reading {len(files):,} files of {printable(str(root))}"
        found = _in_threads(_sha256_if_readable, files, READERS, task)
        (folder / "digests.json").write_text(json.dumps(found))

    # with the root: files unpacked from different archives may have equal sizes and times
    key = digest({"contents of": listing, "root": str(root.resolve())})
    origin = Origin("digests", {"contents of": f"{len(listing)} files", "root": str(root.resolve())})
    entry, _ = store.obtain(key, make, origin=origin)
    digests: dict[str, str] = {}
    for (path, *_), known in zip(listing, json.loads((entry / "digests.json").read_text()), strict=True):
        try:
            digests[path] = known or sha256(root / path)  # a file that was unreadable may be readable now
        except OSError as error:
            unreadable[path] = error.strerror or str(error)
    return digests, unreadable


def decoded(
    root: Path,
    files: Mapping[str, str],
    recipe: ImageDataset,
    store: Store,
    deep: tuple[int, int] | None = None,
) -> Pixels:
    """The pixels of files, which are given by content digest: each content once, in the order of digests.

    `deep` are the values of 16 bits that become 0 and 255, if other images have decided that.
    """
    digests = sorted(files)

    def make(folder: Path) -> None:
        from kdsweep.data.files.decode import DEEP, Facts, Look, decode_into, deep_range  # imports PIL

        shape = len(digests), 3, recipe.image_size, recipe.image_size
        images = _allocate(folder / "images.npy", shape, store)
        look = Look(recipe.image_size, recipe.resize, background=recipe.background)

        def decode_row(row: int) -> Facts:
            return decode_into(images[row], root / files[digests[row]], digests[row], look)

        with warnings.catch_warnings(action="ignore"):  # Pillow warns of garbled metadata: only pixels count
            where = printable(str(root))
            task = f"decoding {len(digests):,} images of {where}, once"
            facts = _in_threads(decode_row, range(len(digests)), cores(), task)
            of_deep = [row for row, each in enumerate(facts) if each.extremes]
            # the number of bits is known once all values have been seen
            taken = deep_range([each.extremes for each in facts if each.extremes])
            look = look._replace(deep=deep or taken)
            if look.deep != DEEP:
                task = f"decoding {len(of_deep):,} images of {where} again, by the range of their 16 bits"
                _in_threads(decode_row, of_deep, cores(), task)
        found = {
            "unreadable": {key: each.error for key, each in zip(digests, facts, strict=True) if each.error},
            "transparent": [key for key, each in zip(digests, facts, strict=True) if each.transparent],
            "deep": [digests[row] for row in of_deep],
            "deep_range": look.deep,
        }
        (folder / "found.json").write_text(json.dumps(found, indent=1))

    def waiting() -> None:
        print(f"  waiting: another job is decoding the images of {root}", flush=True)

    how = {
        "image_size": recipe.image_size,
        "resize": recipe.resize,
        "decoding": DECODING,
        "background": recipe.background,
        **({"deep_range": deep} if deep else {}),
    }
    key = digest({"pixels of": digests, **how})
    origin = Origin("pixels", {"pixels of": f"{len(digests)} images", "root": str(root.resolve()), **how})
    entry, _ = store.obtain(key, make, waiting, origin=origin)
    found = json.loads((entry / "found.json").read_text())
    return Pixels(
        np.load(entry / "images.npy", mmap_mode="r"),
        {key: row for row, key in enumerate(digests)},
        found["unreadable"],
        frozenset(found["transparent"]),
        frozenset(found["deep"]),
        tuple(found["deep_range"]),
    )


def _in_threads(
    work: Callable[[Item], Result], items: Sequence[Item], threads: int, task: str
) -> list[Result]:
    """The results of `work`, in order, while the progress of `task` is shown."""
    results = []
    pool = ThreadPoolExecutor(threads)
    try:
        with progress(task, len(items)) as done:
            for result in pool.map(work, items):
                results.append(result)
                done(1)
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C would otherwise wait for all items
    return results


def _sha256_if_readable(file: Path) -> str | None:
    try:
        return sha256(file)
    except OSError:
        return None


def _allocate(file: Path, shape: tuple[int, ...], store: Store) -> Images:
    """Make an .npy file with reserved space: writing a mapped page without disk space kills the process."""
    images: Images = np.lib.format.open_memmap(file, "w+", np.uint8, shape)
    if not hasattr(os, "posix_fallocate"):
        return images
    size = file.stat().st_size
    try:
        with file.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, size)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise DataError(
            f"store={store.root}: has no room for {size / 1e9:,.1f} GB of decoded images; make room, or use "
            "another store or a smaller dataset.image_size"
        ) from error
    return images
