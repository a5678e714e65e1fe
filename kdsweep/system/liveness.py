"""Whether who began a thing still lives: it holds a lock file, which the system frees when it ends."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import gethostname
from uuid import uuid4

from filelock import FileLock, Timeout


class Alive:
    """A sign of life of this process, which others know by its `text`, host:path."""

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
    """The file of a sign of life, held, if nobody of this machine holds it; None if somebody does.

    Of other machines nothing is known, which is None too. A file that is gone with its folder nobody holds.
    """
    host, _, path = text.partition(":")
    if host != gethostname():
        yield None
    elif not Path(path).exists():
        yield Path(path)
    else:
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except (Timeout, OSError):
            yield None
        else:
            try:
                yield Path(path)
            finally:
                lock.release()


def is_dead(text: str) -> bool:
    """Whether a process of this machine no longer holds its sign of life, which is cleared away then."""
    with left_behind(text) as file:
        if file:
            file.unlink(missing_ok=True)
        return file is not None
