"""Files and folders in any state: links, files of other users, a file in place of a folder."""

import hashlib
import os
import shutil
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile


@cache
def _umask() -> int:
    mask = os.umask(0o022)  # the only way to read it
    os.umask(mask)
    return mask


def share(file: Path) -> None:
    """Give a file the mode of the umask: safetensors writes files that only their owner can read."""
    file.chmod(0o666 & ~_umask())


def exists(path: Path) -> bool:
    """Whether anything exists at the path, a broken link included."""
    return path.is_symlink() or path.exists()


def discard(path: Path) -> None:
    """Remove a file, link or folder as far as possible."""
    with suppress(OSError):
        if path.is_symlink() or path.is_file():
            path.unlink()
    shutil.rmtree(path, ignore_errors=True)


def why_unwritable(folder: Path) -> str | None:
    """Why no file can be made in a folder; None if one can."""
    try:
        TemporaryFile(dir=folder).close()
    except OSError as error:
        return error.strerror
    return None


def sha256(file: Path) -> str:
    """The digest of a file's content, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def owner(file: Path) -> str:
    """The name of a file's owner, for people."""
    try:
        return file.owner()
    except (KeyError, OSError):
        return "another user"
