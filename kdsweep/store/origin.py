"""Where an entry comes from: what it was made from, by whom, or the machine that made it."""

import getpass
import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from socket import gethostname
from typing import Any, Protocol

from kdsweep import __version__
from kdsweep.store.seal import damage

log = logging.getLogger(__name__)

ENTRY = "entry.json"


class Remote(Protocol):
    """A place that exchanges finished entries between machines that do not share a store."""

    def fetch(self, key: str, folder: Path) -> bool:
        """Copy an entry's files, with their checksums, into an empty folder; False if it is missing."""

    def keep(self, key: str, entry: Path) -> None:
        """Store a copy of an entry."""


@dataclass(frozen=True)
class Origin:
    """The description of an entry for its entry.json; entries are looked up only by their keys.

    The key is a digest of `made_from`, which is abridged here if it is long; `parents` are the keys of the
    entries that it was made from; `network` and `role` name the stage that it is or describes.
    """

    kind: str
    made_from: Mapping[str, Any]
    parents: Sequence[str] = ()
    network: str = ""
    role: str = ""


def sign(folder: Path, key: str, origin: Origin, seconds: float) -> None:
    """Write the description of an entry."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = str(os.getuid())
    made = {"key": key, "made": datetime.now(UTC).isoformat(timespec="seconds"), "seconds": round(seconds, 3)}
    by = {"user": user, "host": gethostname(), "kdsweep": __version__}
    (folder / ENTRY).write_text(json.dumps({**asdict(origin), **made, "by": by}, indent=1))


def fetch(remote: Remote, key: str, folder: Path) -> bool:
    """Whether `remote` had the entry, complete; otherwise the folder is empty."""
    if remote.fetch(key, folder):
        wrong = damage(folder)
        if not wrong:
            return True
        log.warning("store: the remote copy of %s is damaged (%s); made again", key[:8], wrong)
    shutil.rmtree(folder)
    folder.mkdir()
    return False
