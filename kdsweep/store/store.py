"""The store: a folder of finished things, each under its content key, each made once.

<root>/kdsweep-store.txt  that it is a store, and nobody's own folder
<root>/<key>/             files of the entry, what it is (entry.json), their SHA256SUMS (for `sha256sum -c`)
<root>/unfinished/<key>/  what a maker needs to go on after it was killed
<root>/damaged/           entries that failed their checksums
<root>/locks/             one lock per key: whoever else needs it waits, then finds it

A store that its user may only read is a source: what it has is used, what is new goes to a store beside.
"""

import getpass
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from socket import gethostname
from typing import Any, Protocol, Self

from filelock import FileLock, Timeout

from kdsweep import __version__
from kdsweep.errors import KdsweepError, disk_is_full
from kdsweep.store.seal import damage, seal
from kdsweep.system.files import discard, exists, owner, why_unwritable

log = logging.getLogger(__name__)

ENTRY, MARKER = "entry.json", "kdsweep-store.txt"
OWN = "kdsweep-store"  # the usual folder, in the working directory
_verified: set[Path] = set()  # entries whose checksums this process has read


class Remote(Protocol):
    """Where finished entries can be had from, and go to, when machines do not share a store."""

    def fetch(self, key: str, folder: Path) -> bool:
        """Put the files of an entry, its checksums among them, into an empty folder; False if it has none."""

    def keep(self, key: str, entry: Path) -> None:
        """Take a copy of an entry."""


@dataclass(frozen=True)
class Origin:
    """What an entry is and where it came from, told in its entry.json; the key alone decides what is found.

    `made_from` is what the key is a digest of, in short where that is long; `parents` are the keys of the
    entries it was made from; `network` and `role` are the names of the stage that it is or tells about.
    """

    kind: str
    made_from: Mapping[str, Any]
    parents: Sequence[str] = ()
    network: str = ""
    role: str = ""


class Busy(Exception):
    """Another process is making the entry."""


class Store:
    """`used` are the keys of what was found or made through this object; `budget` is in GB; `source` is
    another store, which is only read.

    Whoever only looks makes nothing: the folder is made by `made`, and with the first entry.
    """

    def __init__(
        self, root: str | Path, budget: float | None = None, source: str | Path | None = None
    ) -> None:
        self.root, self.shown, self.budget = Path(root).absolute(), str(root), budget
        self.source = Path(source).absolute() if source is not None else None
        self.used: set[str] = set()

    def made(self) -> Self:
        """Have its folder where it is missing.

        Raises KdsweepError if it cannot be made, or holds what is not a store's: files of a store come and
        go, and none but its own may.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            if not (self.root / MARKER).exists():
                if any(self.root.iterdir()):
                    raise KdsweepError(
                        f"store={self.shown}: holds other files and is no store of kdsweep; give a folder of "
                        f"its own, such as {Path(self.shown) / OWN}"
                    )
                (self.root / MARKER).write_text(
                    "A store of kdsweep: `kdsweep-store list` shows what is in it.\n"
                )
            for name in ("unfinished", "damaged", "locks"):
                (self.root / name).mkdir(exist_ok=True)
        except OSError as error:
            raise KdsweepError(f"store={self.shown}: cannot be made a folder: {error.strerror}") from error
        return self

    @property
    def folders(self) -> list[Path]:
        """Where entries are looked for."""
        return [self.root, self.source] if self.source else [self.root]

    def find(self, key: str) -> Path | None:
        """The finished entry of `key`, its checksums verified; None if there is none or it is damaged.

        Raises KdsweepError if it is there and cannot be read.
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
        """The entry of `key` and whether it was there already, or at `remote`.

        If not, `make(folder)` fills an empty folder, which becomes the entry in one step; a maker that fails
        leaves none. Others who need the key meanwhile wait, `waiting` being called once before; with
        `wait=False` they get Busy instead. Raises KdsweepError if the disk is full.
        """
        if entry := self.find(key):
            return entry, True
        with self.made()._lock(key, waiting, wait):
            if entry := self.find(key):
                return entry, True
            self._clear(key)
            with (
                self._full_disk_is_told(),
                tempfile.TemporaryDirectory(prefix=f".{key}-", dir=self.root) as folder,
            ):
                made = Path(folder) / key
                made.mkdir()
                fetched = remote is not None and _fetch(remote, key, made)
                if not fetched:
                    start = time.perf_counter()
                    make(made)
                    _sign(made, key, origin, time.perf_counter() - start)
                seal(made)
                made.replace(self.root / key)
            discard(self.unfinished(key))
            _verified.add(self.root / key)
            self.used.add(key)
            if remote and not fetched:
                remote.keep(key, self.root / key)
            return self.root / key, fetched

    def damage(self, key: str) -> str | None:
        """What is wrong with an entry, all of whose files are read; None if nothing is."""
        try:
            return damage(self.root / key)
        except PermissionError as error:
            return f"cannot be read: {error.strerror}"

    def unfinished(self, key: str) -> Path:
        """The folder, which may not exist, where the maker of `key` keeps its checkpoints."""
        return self.root / "unfinished" / key

    def check_budget(self) -> None:
        """Raise KdsweepError if everything in the store together has outgrown its budget."""
        if self.budget is None:
            return
        size = size_of(self.root) / 1e9
        if size > self.budget:
            raise KdsweepError(
                f"store_budget={self.budget:g}: the store {self.root} has {size:,.3g} GB; make room with "
                "`kdsweep-store remove --unused`, or raise it"
            )

    @contextmanager
    def _full_disk_is_told(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if told := disk_is_full(error, self.root):
                raise KdsweepError(f"store={told}") from error
            raise

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
        """Under the key's lock: put a damaged entry aside, and away what a killed maker left."""
        for left in self.root.glob(f".{key}-*"):
            discard(left)
        entry = self.root / key
        if exists(entry):
            aside = Path(tempfile.mkdtemp(prefix=f"{key}-", dir=self.root / "damaged"))
            log.warning(
                "store: %s is damaged (%s); set aside in %s, made anew", key[:8], _damage(entry), aside
            )
            entry.replace(aside / key)


def open_store(root: str | Path, budget: float | None = None) -> Store:
    """The store of a config, made where it is missing. Raises KdsweepError as `place_store` and `made` do."""
    return place_store(root, budget).made()


def place_store(root: str | Path, budget: float | None = None) -> Store:
    """The store of a config, of which nothing is made. One that this user may not write to is a source beside
    a store in the working directory, which gets what is new; KdsweepError where that has no room for one.
    """
    folder = Path(root).absolute()
    if not (folder / MARKER).is_file() or not any(map(why_unwritable, (folder, folder / "locks"))):
        return Store(root, budget)
    own = Path(OWN).absolute()
    if own == folder or why_unwritable(own if own.exists() else own.parent):
        raise KdsweepError(
            f"store={root}: may be read and not written to, and the working directory has no room for one "
            "beside; start where you may write"
        )
    _say_source(root)
    return Store(own, budget, folder)


@cache
def _say_source(root: str | Path) -> None:
    """Once per process, whatever the number of jobs."""
    log.warning("store=%s: may be read and not written to; what is new goes to %s", root, OWN)


def _damage(entry: Path) -> str | None:
    try:
        return damage(entry)
    except PermissionError as error:
        raise _not_permitted(Path(error.filename or entry)) from error


def _not_permitted(file: Path) -> KdsweepError:
    return KdsweepError(
        f"store: {file}, which belongs to {owner(file)}, is not for you to read and write; its owner's umask "
        "should allow it, as 002 does for a group: chmod -R g+rwX mends what is there"
    )


def size_of(folder: Path) -> int:
    """The bytes of all files below a folder; what vanishes meanwhile counts nothing."""
    total = 0
    for path, _, files in os.walk(folder):
        for name in files:
            with suppress(OSError):
                total += os.lstat(os.path.join(path, name)).st_size  # noqa: PTH118 (twice as fast)
    return total


def _sign(folder: Path, key: str, origin: Origin, seconds: float) -> None:
    """Leave in an entry what it is."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = str(os.getuid())
    made = {"key": key, "made": datetime.now(UTC).isoformat(timespec="seconds"), "seconds": round(seconds, 3)}
    by = {"user": user, "host": gethostname(), "kdsweep": __version__}
    (folder / ENTRY).write_text(json.dumps({**asdict(origin), **made, "by": by}, indent=1))


def _fetch(remote: Remote, key: str, folder: Path) -> bool:
    """Whether the entry came, and came whole; else the folder is empty."""
    came = remote.fetch(key, folder)
    wrong = damage(folder) if came else None
    if came and not wrong:
        return True
    if wrong:
        log.warning("store: %s came damaged from elsewhere (%s); made anew", key[:8], wrong)
    shutil.rmtree(folder)
    folder.mkdir()
    return False
