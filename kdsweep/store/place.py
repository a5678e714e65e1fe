"""Which store a config means."""

import logging
from pathlib import Path

from kdsweep.errors import KdsweepError
from kdsweep.store.store import MARKER, OWN, Store
from kdsweep.system.files import why_unwritable
from kdsweep.system.progress import once

log = logging.getLogger(__name__)


def open_store(root: str | Path, budget: float | None = None, answers_gb: float = 0.0) -> Store:
    """The store of a config, made if it is missing. Raises KdsweepError as `place_store` and `made` do."""
    return place_store(root, budget, answers_gb).made()


def place_store(root: str | Path, budget: float | None = None, answers_gb: float = 0.0) -> Store:
    """The store of a config, without making it.

    If this user may only read it, it is the source of a store in the working directory, which gets new
    entries. Raises KdsweepError if the user cannot write there either.
    """
    folder = Path(root).absolute()
    if not (folder / MARKER).is_file() or not any(map(why_unwritable, (folder, folder / "locks"))):
        return Store(root, budget, answers_gb=answers_gb)
    own = Path(OWN).absolute()
    if own == folder or why_unwritable(own if own.exists() else own.parent):
        raise KdsweepError(
            f"store={root}: is read-only for you, and so is the working directory, which would get new "
            "entries; start in a folder where you may write"
        )
    once(log.warning, f"store={root}: is read-only for you; new entries go to {OWN}")
    return Store(own, budget, folder, answers_gb)
