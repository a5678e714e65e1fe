"""Files and folders as they are found: links, others' files, whatever lies where a folder should."""

import hashlib
import os
import shutil
from contextlib import suppress
from functools import cache
from pathlib import Path


@cache
def _umask() -> int:
    mask = os.umask(0o022)  # there is no other way to know it
    os.umask(mask)
    return mask


def share(file: Path) -> None:
    """Give a file the mode of the umask: safetensors makes files that their owner alone can read."""
    file.chmod(0o666 & ~_umask())


def exists(path: Path) -> bool:
    """Whether anything is there, be it a link that leads nowhere."""
    return path.is_symlink() or path.exists()


def discard(path: Path) -> None:
    """Remove whatever is there, as far as it can be."""
    with suppress(OSError):
        if path.is_symlink() or path.is_file():
            path.unlink()
    shutil.rmtree(path, ignore_errors=True)


def sha256(file: Path) -> str:
    """The digest of a file's content, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def is_writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids)


def owner(file: Path) -> str:
    """The name of a file's owner, for people."""
    try:
        return file.owner()
    except (KeyError, OSError):
        return "another user"
