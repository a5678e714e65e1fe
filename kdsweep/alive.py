"""Whether who began a thing still lives: it holds a lock file, which the system frees when a process ends."""

from contextlib import suppress
from pathlib import Path
from socket import gethostname
from uuid import uuid4

from filelock import FileLock, Timeout


class Alive:
    """A sign of life of this process, told to others by its `text`, host:path."""

    def __init__(self, folder: Path, kind: str) -> None:
        self._lock = FileLock(folder / f"{kind}-{uuid4().hex}.lock")
        self._lock.acquire()
        self.text = f"{gethostname()}:{self._lock.lock_file}"

    def end(self) -> None:
        self._lock.release()
        Path(self._lock.lock_file).unlink(missing_ok=True)


def is_dead(text: str) -> bool:
    """Whether a process of this machine no longer holds its sign; of others' nothing is known."""
    host, _, path = text.partition(":")
    if host != gethostname():
        return False
    lock = Path(path)
    if not lock.exists():
        return True
    with suppress(Timeout, OSError), FileLock(lock, timeout=0):
        lock.unlink(missing_ok=True)
        return True
    return False
