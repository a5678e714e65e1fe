"""Whether the process that started something is alive: it holds a lock, which the system frees at its end."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import gethostname
from uuid import uuid4

from filelock import FileLock, Timeout


class Alive:
    """A sign of life of this process; others find it by its `text`, host:path."""

    def __init__(self, folder: Path, kind: str) -> None:
        self._lock = FileLock(folder / f"{kind}-{uuid4().hex}.lock")
        self._lock.acquire()
        self.file = Path(self._lock.lock_file)
        self.text = f"{gethostname()}:{self.file}"

    def end(self) -> None:
        self._lock.release()
        self.file.unlink(missing_ok=True)


@contextmanager
def left_behind(text: str) -> Iterator[Path | None]:
    """The file of a sign of life, locked, if its process on this machine is dead; None if it lives.

    None on other machines too, whose processes are unknown. A file that no longer exists counts as dead.
    """
    host, _, path = text.partition(":")
    file = Path(path)
    if host != gethostname():
        yield None
    elif not file.exists():
        yield file
    else:
        try:
            held = FileLock(file).acquire(timeout=0)
        except (Timeout, OSError):
            yield None
            return
        with held:
            yield file


def is_dead(text: str) -> bool:
    """Whether a sign of life on this machine belongs to a dead process; if so, it is removed."""
    with left_behind(text) as file:
        if file:
            file.unlink(missing_ok=True)
        return file is not None
