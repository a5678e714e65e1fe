"""What is computed of image files once and kept in the store: digests of their content, and their pixels.

The first entry depends on where the files lie and when they were written, the second on their content alone.
So files that were touched or moved are read again, but not decoded.
"""

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kdsweep.data.progress import progress
from kdsweep.data.split import Images
from kdsweep.errors import DataError
from kdsweep.stage import digest
from kdsweep.store import Origin, Store

# Raised when a change of the code brings other pixels out of the same files.
DECODING = 1
READERS = 8  # threads that read files: a disk or a network answers several at a time


@dataclass(frozen=True)
class Pixels:
    images: Images  # uint8 [M, 3, S, S], memory-mapped
    rows: Mapping[str, int]  # by content digest
    unreadable: Mapping[str, str]  # what is wrong, by content digest


def content_digests(root: Path, paths: Sequence[str], store: Store) -> list[str]:
    """The SHA-256 of each file; those that kept path, size and time are not read again."""
    files = [root / path for path in paths]

    def make(folder: Path) -> None:
        with _unreadable_is_told():
            digests = _read_all(root, files)
        (folder / "digests.json").write_text(json.dumps(digests))

    with _unreadable_is_told():
        stats = [file.stat() for file in files]
    # the root, for archives unpack to files of equal size and time where their content differs
    listing = [[path, stat.st_size, stat.st_mtime_ns] for path, stat in zip(paths, stats, strict=True)]
    key = digest({"contents of": listing, "root": str(root.resolve())})
    origin = Origin("digests", {"contents of": f"{len(paths)} files", "root": str(root.resolve())})
    entry, _ = store.obtain(key, make, origin=origin)
    digests: list[str] = json.loads((entry / "digests.json").read_text())
    return digests


def decoded(root: Path, files: Mapping[str, str], size: int, resize: str, store: Store) -> Pixels:
    """The pixels of files, given by content digest; of each content once, in the order of the digests."""
    digests = sorted(files)

    def make(folder: Path) -> None:
        from kdsweep.data.decode import ChangedError, Task, decode_all  # imports PIL

        images = folder / "images.npy"
        _allocate(images, (len(digests), 3, size, size), store)
        tasks = [Task(row, str(root / files[key]), key) for row, key in enumerate(digests)]
        try:
            with (
                _unreadable_is_told(),
                progress(f"decoding {len(tasks):,} images of {root}, once", len(tasks)) as done,
            ):
                unreadable = decode_all(images, tasks, size, resize, done)
        except ChangedError as error:
            raise DataError(
                f"{error}: its content changed, while it was read or without a change of size and time; "
                "touch it and start again"
            ) from error
        except BrokenProcessPool as error:
            raise DataError(
                f"{root}: a process that decoded images was killed, perhaps for want of memory; start again"
            ) from error
        (folder / "unreadable.json").write_text(json.dumps(unreadable, indent=1))

    def waiting() -> None:
        print(f"  waiting: another job is decoding the images of {root}", flush=True)

    how = {"image_size": size, "resize": resize, "decoding": DECODING}
    key = digest({"pixels of": digests, **how})
    origin = Origin("pixels", {"pixels of": f"{len(digests)} images", "root": str(root.resolve()), **how})
    entry, _ = store.obtain(key, make, waiting, origin=origin)
    images = np.load(entry / "images.npy", mmap_mode="r")
    rows = {key: row for row, key in enumerate(digests)}
    return Pixels(images, rows, json.loads((entry / "unreadable.json").read_text()))


def _read_all(root: Path, files: Sequence[Path]) -> list[str]:
    digests = []
    with (
        progress(f"reading {len(files):,} files of {root}", len(files)) as done,
        ThreadPoolExecutor(READERS) as pool,
    ):
        try:
            for value in pool.map(_sha256, files):
                digests.append(value)
                done(1)
        except BaseException:  # Ctrl-C would wait for all of them
            pool.shutdown(cancel_futures=True)
            raise
    return digests


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _allocate(file: Path, shape: tuple[int, ...], store: Store) -> None:
    """An .npy file that has its space on the disk: writing a mapped page without kills the process."""
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
            f"store={store.root}: has no room for {size / 1e9:,.1f} GB of decoded images; make room, take "
            "another store, or a smaller dataset.image_size"
        ) from error


@contextmanager
def _unreadable_is_told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = error.filename or "dataset.root"
        raise DataError(f"{where}: cannot be read ({error.strerror or error})") from error
