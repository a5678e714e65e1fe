"""The checksums of a finished folder, in a list for `sha256sum -c` that has its own checksum."""

import hashlib
import os
from pathlib import Path

from kdsweep.system.files import sha256, share

SUMS = "SHA256SUMS"
BOUND = "# sha256 of the lines below: "


def seal(folder: Path, flush: bool = True) -> None:
    """Write the checksums and flush everything to the disk, so that an entry is complete or absent.

    Without `flush`, a machine that loses its power may leave a torn entry, which its checksums show.
    """
    files = sorted(file for file in folder.iterdir() if file.is_file() and file.name != SUMS)
    lines = "".join(f"{sha256(file)}  {file.name}\n" for file in files)
    (folder / SUMS).write_text(f"{BOUND}{hashlib.sha256(lines.encode()).hexdigest()}\n{lines}")
    for file in files:
        share(file)
    for path in (*files, folder / SUMS, folder) if flush else ():
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def damage(folder: Path) -> str | None:
    """The damage of a sealed folder, or None. Raises PermissionError if it cannot be read."""
    if folder.is_symlink() or not folder.is_dir():
        return "not a folder"
    try:
        bound, _, lines = (folder / SUMS).read_text().partition("\n")
        if bound != f"{BOUND}{hashlib.sha256(lines.encode()).hexdigest()}":
            return f"checksum of {SUMS}"
        sums = [line.split("  ", 1) for line in lines.splitlines()]
        wrong = [name for checksum, name in sums if sha256(folder / name) != checksum]
    except PermissionError:
        raise
    except (OSError, ValueError) as error:
        return str(error)
    return f"checksum of {', '.join(wrong)}" if wrong else None
