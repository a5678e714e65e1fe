"""The store: a folder of finished things, each under its content key, each made once.

<root>/<key>/             files of the entry and their SHA256SUMS (`sha256sum -c` reads it)
<root>/unfinished/<key>/  what a maker needs to go on after it was killed
<root>/damaged/           entries that failed their checksums
<root>/locks/             one lock per key: whoever else needs it waits, then finds it
"""

import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout

from kdsweep.errors import KdsweepError

log = logging.getLogger(__name__)

SUMS = "SHA256SUMS"
_verified: set[Path] = set()  # entries whose checksums this process has read


class Remote(Protocol):
    """Where finished entries can be had from, and go to, when machines do not share a store."""

    def fetch(self, key: str, folder: Path) -> bool:
        """Put the files of an entry, its checksums among them, into an empty folder; False if it has none."""

    def keep(self, key: str, entry: Path) -> None:
        """Take a copy of an entry."""


class Store:
    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).absolute()
        try:
            for folder in (self.root, self.root / "unfinished", self.root / "damaged", self.root / "locks"):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise KdsweepError(f"store={root}: cannot be made a folder: {error.strerror}") from error

    def find(self, key: str) -> Path | None:
        """The finished entry of `key`, its checksums verified; None if there is none or it is damaged."""
        entry = self.root / key
        if not entry.is_dir() or (entry not in _verified and _damage(entry)):
            return None
        _verified.add(entry)
        return entry

    def obtain(
        self,
        key: str,
        make: Callable[[Path], None],
        waiting: Callable[[], None] = lambda: None,
        remote: Remote | None = None,
    ) -> tuple[Path, bool]:
        """The entry of `key` and whether it was there already, or at `remote`.

        If not, `make(folder)` fills an empty folder, which becomes the entry in one step; a maker that fails
        leaves none. Others who need the key meanwhile wait, `waiting` being called once before.
        """
        if entry := self.find(key):
            return entry, True
        with self._lock(key, waiting):
            if entry := self.find(key):
                return entry, True
            self._clear(key)
            with tempfile.TemporaryDirectory(prefix=f".{key}-", dir=self.root) as folder:
                made = Path(folder) / key
                made.mkdir()
                fetched = remote is not None and _fetch(remote, key, made)
                if not fetched:
                    make(made)
                _seal(made)
                made.replace(self.root / key)
            shutil.rmtree(self.unfinished(key), ignore_errors=True)
            _verified.add(self.root / key)
            if remote and not fetched:
                remote.keep(key, self.root / key)
            return self.root / key, fetched

    def unfinished(self, key: str) -> Path:
        """The folder, which may not exist, where the maker of `key` keeps its checkpoints."""
        return self.root / "unfinished" / key

    @contextmanager
    def _lock(self, key: str, waiting: Callable[[], None]) -> Iterator[None]:
        lock = FileLock(self.root / "locks" / f"{key}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            waiting()
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _clear(self, key: str) -> None:
        """Under the key's lock: put a damaged entry aside, and away what a killed maker left."""
        for left in self.root.glob(f".{key}-*"):
            shutil.rmtree(left, ignore_errors=True)
        entry = self.root / key
        if entry.is_dir():
            aside = Path(tempfile.mkdtemp(prefix=f"{key}-", dir=self.root / "damaged"))
            log.warning(
                "store: %s is damaged (%s); set aside in %s, made anew", key[:8], _damage(entry), aside
            )
            entry.replace(aside / key)


def _checksum(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _fetch(remote: Remote, key: str, folder: Path) -> bool:
    """Whether the entry came, and came whole; else the folder is empty."""
    damage = _damage(folder) if remote.fetch(key, folder) else None
    if (folder / SUMS).exists() and not damage:
        return True
    if damage:
        log.warning("store: %s came damaged from elsewhere (%s); made anew", key[:8], damage)
    shutil.rmtree(folder)
    folder.mkdir()
    return False


def _seal(folder: Path) -> None:
    """Write the checksums and force everything onto the disk, so that an entry is whole or absent."""
    files = sorted(file for file in folder.iterdir() if file.is_file() and file.name != SUMS)
    lines = "".join(f"{_checksum(file)}  {file.name}\n" for file in files)
    (folder / SUMS).write_text(lines)
    for path in (*files, folder / SUMS, folder):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def _damage(entry: Path) -> str | None:
    """What is wrong with an entry, or None."""
    try:
        sums = [line.split("  ", 1) for line in (entry / SUMS).read_text().splitlines()]
        wrong = [name for checksum, name in sums if _checksum(entry / name) != checksum]
    except (OSError, ValueError) as error:
        return str(error)
    if not sums:
        return "no files"
    return f"checksum of {', '.join(wrong)}" if wrong else None
