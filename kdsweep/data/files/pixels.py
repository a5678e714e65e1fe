"""The store's entries about image files: digests of their content, and their pixels.

The digests depend on where files lie and when they were written, the pixels only on their content. So files
that were touched or moved are read again, but not decoded again.
"""

import errno
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG

import numpy as np

from kdsweep.config import ImageDataset
from kdsweep.data.files.names import printable
from kdsweep.data.split import Images
from kdsweep.errors import DataError
from kdsweep.stage import digest
from kdsweep.store.store import Origin, Store
from kdsweep.system.files import sha256
from kdsweep.system.terminal import progress

# Increase this when a change of the code gives other pixels for the same files, or other facts about them.
# The keys of stages still contain 1 (read.py): 2 differs only for transparent images and those of 16 bits.
DECODING = 2
READERS = 8  # threads that read files: a disk or a network serves several at a time


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
        (folder / "digests.json").write_text(json.dumps(_read_all(root, files)))

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


def decoded(root: Path, files: Mapping[str, str], recipe: ImageDataset, store: Store) -> Pixels:
    """The pixels of files, which are given by content digest: each content once, in the order of digests."""
    digests = sorted(files)

    def make(folder: Path) -> None:
        from kdsweep.data.files.decode import ChangedError, Look, Task, decode_all, deep_range  # imports PIL

        images = folder / "images.npy"
        _allocate(images, (len(digests), 3, recipe.image_size, recipe.image_size), store)
        tasks = [Task(row, str(root / files[key]), key) for row, key in enumerate(digests)]
        look = Look(recipe.image_size, recipe.resize, background=recipe.background)
        try:
            with (
                _errors_of_reading(),
                progress(
                    f"decoding {len(tasks):,} images of {printable(str(root))}, once", len(tasks)
                ) as done,
            ):
                found = decode_all(images, tasks, look, done)
                # the number of bits is known once all values have been seen
                used = deep_range(found.extremes.values())
                if used != look.deep:
                    deep = [task for task in tasks if task.digest in found.extremes]
                    decode_all(images, deep, look._replace(deep=used), lambda count: None)
        except ChangedError as error:
            raise DataError(
                f"{printable(str(error))}: its content changed while it was read, or without a new size or "
                "time; touch it and start again"
            ) from error
        except BrokenProcessPool as error:
            raise DataError(
                f"{root}: a process that decoded images was killed, perhaps out of memory; start again"
            ) from error
        (folder / "found.json").write_text(
            json.dumps(
                {
                    "unreadable": found.unreadable,
                    "transparent": sorted(found.transparent),
                    "deep": sorted(found.extremes),
                    "deep_range": used,
                },
                indent=1,
            )
        )

    def waiting() -> None:
        print(f"  waiting: another job is decoding the images of {root}", flush=True)

    how = {
        "image_size": recipe.image_size,
        "resize": recipe.resize,
        "decoding": DECODING,
        "background": recipe.background,
    }
    key = digest({"pixels of": digests, **how})
    origin = Origin("pixels", {"pixels of": f"{len(digests)} images", "root": str(root.resolve()), **how})
    entry, _ = store.obtain(key, make, waiting, origin=origin)
    images = np.load(entry / "images.npy", mmap_mode="r")
    rows = {key: row for row, key in enumerate(digests)}
    found = json.loads((entry / "found.json").read_text())
    return Pixels(
        images,
        rows,
        found["unreadable"],
        frozenset(found["transparent"]),
        frozenset(found["deep"]),
        tuple(found["deep_range"]),
    )


def _read_all(root: Path, files: Sequence[Path]) -> list[str | None]:
    """The digest of each file, None for an unreadable one."""
    digests = []
    with (
        progress(f"reading {len(files):,} files of {printable(str(root))}", len(files)) as done,
        ThreadPoolExecutor(READERS) as pool,
    ):
        try:
            for value in pool.map(_sha256_if_readable, files):
                digests.append(value)
                done(1)
        except BaseException:  # Ctrl-C would otherwise wait for all files
            pool.shutdown(cancel_futures=True)
            raise
    return digests


def _sha256_if_readable(file: Path) -> str | None:
    try:
        return sha256(file)
    except OSError:
        return None


def _allocate(file: Path, shape: tuple[int, ...], store: Store) -> None:
    """Make an .npy file with reserved space: writing a mapped page without disk space kills the process."""
    np.lib.format.open_memmap(file, "w+", np.uint8, shape)
    if not hasattr(os, "posix_fallocate"):
        return
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


@contextmanager
def _errors_of_reading() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = error.filename or "dataset.root"
        raise DataError(f"{where}: cannot be read ({error.strerror or error})") from error
