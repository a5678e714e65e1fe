"""The store: a folder of finished entries, each made once and found by its content key.

<root>/kdsweep-store.txt  marks the folder as a store
<root>/<key>/             the files of an entry, its description (entry.json), their SHA256SUMS
<root>/unfinished/<key>/  what a killed maker needs to resume
<root>/damaged/           entries that failed their checksums
<root>/locks/             one lock per key: other processes that need it wait, then find the entry

A store that its user may only read is a source: its entries are used, and new ones go to another store.
"""

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

from kdsweep.errors import UNUSED, DiskFull, KdsweepError, disk_is_full
from kdsweep.store.origin import Origin, Remote, fetch, sign
from kdsweep.store.seal import damage, seal
from kdsweep.system.files import discard, exists, owner

log = logging.getLogger(__name__)

MARKER = "kdsweep-store.txt"
OWN = "kdsweep-store"  # the usual folder, in the working directory
REMOVED = "removed"  # has folders that are being removed
ANSWERS = "answers.safetensors"  # what a teacher said of an epoch of augmented images
LEFT_FREE = 1e9  # bytes of the disk that are not filled with what can be made again
_verified: set[Path] = set()  # entries whose checksums this process has read


class Busy(Exception):
    """Another process is making the entry."""


class Store:
    """A store; `used` has the keys of entries found or made by this object, `budget` is in GB, and so is
    `answers_gb`, the limit of what each teacher says of each series of augmented images.

    `source` is another store, which is only read. Looking for entries makes no folder: `made` does, and so
    does the first entry.
    """

    def __init__(
        self,
        root: str | Path,
        budget: float | None = None,
        source: str | Path | None = None,
        answers_gb: float = 0.0,
    ) -> None:
        self.root, self.shown, self.budget = Path(root).absolute(), str(root), budget
        self.source = Path(source).absolute() if source is not None else None
        self.answers_gb = answers_gb
        self.used: set[str] = set()

    def made(self) -> Self:
        """Make the store's folder if it is missing.

        Raises KdsweepError if that fails, or if the folder holds other files: a store deletes files.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            if not (self.root / MARKER).exists():
                if any(self.root.iterdir()):
                    raise KdsweepError(
                        f"store={self.shown}: holds other files and is not a store of kdsweep; name an own "
                        f"folder for it, such as {Path(self.shown) / OWN}"
                    )
                (self.root / MARKER).write_text(
                    "This folder is a store of kdsweep: `kdsweep-store list` shows its entries.\n"
                )
            for name in ("unfinished", "damaged", "locks"):
                (self.root / name).mkdir(exist_ok=True)
        except OSError as error:
            raise KdsweepError(f"store={self.shown}: the folder cannot be made: {error.strerror}") from error
        return self

    @property
    def folders(self) -> list[Path]:
        """The folders that may have entries."""
        return [self.root, self.source] if self.source else [self.root]

    def find(self, key: str) -> Path | None:
        """The finished entry of `key`, with verified checksums; None if it is missing or damaged.

        Raises KdsweepError if it exists but cannot be read.
        """
        for entry in (folder / key for folder in self.folders):
            if exists(entry) and (entry in _verified or not _damage(entry)):
                _verified.add(entry)
                self.used.add(key)
                return entry
        return None

    def obtain(
        self,
        key: str,
        make: Callable[[Path], None],
        waiting: Callable[[], None] = lambda: None,
        remote: Remote | None = None,
        *,
        origin: Origin,
        wait: bool = True,
    ) -> tuple[Path, bool]:
        """The entry of `key`, which `make(folder)` fills if it is missing, and whether it existed already;
        the rest is as for `entry`."""
        with self.entry(key, waiting, remote, origin=origin, wait=wait) as (folder, found):
            if not found:
                make(folder)
        return folder if found else self.root / key, found

    @contextmanager
    def entry(
        self,
        key: str,
        waiting: Callable[[], None] = lambda: None,
        remote: Remote | None = None,
        *,
        origin: Origin,
        wait: bool = True,
        flush: bool = True,
    ) -> Iterator[tuple[Path, bool]]:
        """The entry of `key` and True, if it exists already, here or at `remote`.

        Otherwise an empty folder and False: what is put into it becomes the entry in one step, and an error
        leaves no entry. Meanwhile another process that needs the key calls `waiting` once and waits; with
        `wait=False` it gets Busy instead. `flush` is as for `seal`. Raises DiskFull.
        """
        entry = self.find(key)
        if not entry:
            with self.made()._lock(key, waiting, wait):
                entry = self.find(key)
                if not entry:
                    with self._new(key, flush) as folder:
                        fetched = remote is not None and fetch(remote, key, folder)
                        if not fetched:
                            start = time.perf_counter()
                            yield folder, False
                            sign(folder, key, origin, time.perf_counter() - start)
                    if not fetched:
                        if remote:
                            remote.keep(key, self.root / key)
                        return
                    entry = self.root / key
        yield entry, True

    @contextmanager
    def _new(self, key: str, flush: bool) -> Iterator[Path]:
        """Under the key's lock: an empty folder that becomes the entry, unless there is an error."""
        self._clear(key)
        with (
            self._explain_full_disk(),
            tempfile.TemporaryDirectory(prefix=f".{key}-", dir=self.root) as folder,
        ):
            made = Path(folder) / key
            made.mkdir()
            yield made
            seal(made, flush)
            made.replace(self.root / key)
        discard(self.unfinished(key))
        _verified.add(self.root / key)
        self.used.add(key)

    def remove(self, key: str, folder: Path) -> bool:
        """Remove the entry or checkpoint `folder` of `key` in one step; False if a process works on it."""
        try:
            with FileLock(self.root / "locks" / f"{key}.lock", timeout=0):
                if exists(folder):
                    (self.root / REMOVED).mkdir(exist_ok=True)
                    aside = Path(tempfile.mkdtemp(dir=self.root / REMOVED))
                    folder.replace(aside / folder.name)
                    shutil.rmtree(aside)
        except Timeout:
            return False
        return True

    def answers(self) -> list[Path]:
        """The entries with teachers' answers to augmented images, which are freed first, the oldest first."""
        found = [(file.lstat().st_mtime, file.parent) for file in self.root.glob(f"*/{ANSWERS}")]
        return [folder for _, folder in sorted(found)]

    def has_room(self, size: int) -> bool:
        """Whether the store may grow by so many bytes that it can do without."""
        if shutil.disk_usage(self.made().root).free - size < LEFT_FREE:
            return False
        return self.budget is None or size_of(self.root) + size <= self.budget * 1e9

    def damage(self, key: str) -> str | None:
        """The damage of an entry, after reading all its files; None if it is sound."""
        try:
            return damage(self.root / key)
        except PermissionError as error:
            return f"cannot be read: {error.strerror}"

    def unfinished(self, key: str) -> Path:
        """The folder for checkpoints of the maker of `key`; it may not exist."""
        return self.root / "unfinished" / key

    def check_budget(self) -> None:
        """If the store has outgrown its budget, free answers. Raises KdsweepError if that is not enough."""
        if self.budget is None:
            return
        size = size_of(self.root)
        for folder in self.answers() if size > self.budget * 1e9 else ():
            large = size_of(folder)
            if self.remove(folder.name, folder):
                size -= large
            if size <= self.budget * 1e9:
                break
        if size > self.budget * 1e9:
            raise KdsweepError(
                f"store_budget={self.budget:g}: the store {self.root} has {size / 1e9:,.3g} GB; make room "
                f"with {UNUSED}, or raise it"
            )

    @contextmanager
    def _explain_full_disk(self) -> Iterator[None]:
        try:
            yield
        except DiskFull:
            raise
        except Exception as error:  # libraries report a full disk by types of their own
            if not disk_is_full(error, self.root):
                raise
            freed = sum(map(size_of, self.answers())) / 1e9
            remedy = f"`kdsweep-store remove --answers`, which frees {freed:,.3g} GB" if freed else UNUSED
            raise DiskFull(f"store={disk_is_full(error, self.root, remedy)}") from error

    @contextmanager
    def _lock(self, key: str, waiting: Callable[[], None], wait: bool) -> Iterator[None]:
        file = self.root / "locks" / f"{key}.lock"
        lock = FileLock(file)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if not wait:
                raise Busy from None
            waiting()
            lock.acquire()
        except PermissionError as error:
            raise _not_permitted(file) from error
        except OSError as error:
            raise KdsweepError(f"store: {file} cannot be locked: {error.strerror}; remove it") from error
        try:
            yield
        finally:
            lock.release()

    def _clear(self, key: str) -> None:
        """Under the key's lock: set a damaged entry aside, and remove what a killed maker left."""
        for name in os.listdir(self.root):  # noqa: PTH208 (four times as fast as glob)
            if name.startswith(f".{key}-"):
                discard(self.root / name)
        entry = self.root / key
        if exists(entry):
            aside = Path(tempfile.mkdtemp(prefix=f"{key}-", dir=self.root / "damaged"))
            log.warning(
                "store: %s is damaged (%s); moved to %s and made again", key[:8], _damage(entry), aside
            )
            entry.replace(aside / key)


def _damage(entry: Path) -> str | None:
    try:
        return damage(entry)
    except PermissionError as error:
        raise _not_permitted(Path(error.filename or entry)) from error


def _not_permitted(file: Path) -> KdsweepError:
    return KdsweepError(
        f"store: you may not read and write {file} of {owner(file)}; the owner can allow a group by umask "
        "002 and, for existing files, chmod -R g+rwX"
    )


def size_of(folder: Path) -> int:
    """The bytes of all files below a folder; files that vanish meanwhile do not count."""
    total = 0
    for path, _, files in os.walk(folder):
        for name in files:
            with suppress(OSError):
                total += os.lstat(os.path.join(path, name)).st_size  # noqa: PTH118 (twice as fast)
    return total
