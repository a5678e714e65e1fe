"""Errors for people: a KdsweepError is printed as its message, without a traceback."""

import errno
import os
import re
import shutil
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from kdsweep.system.foreign_errors import has_no_home, is_out_of_memory, memory_wanted, system_error_number
from kdsweep.system.terminal import say

TRACEBACKS = "KDSWEEP_TRACEBACKS"  # set by `kdsweep`, which needs HYDRA_FULL_ERROR for its own purpose
LONGEST_NAME = 200  # of a file, in a message
UNUSED = "`kdsweep-store remove --unused`"
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # of a disk that is full


class KdsweepError(Exception):
    """Says what is wrong, where, what is allowed and what to do, in one or two lines."""


class ConfigError(KdsweepError):
    """A composed config that cannot be run; the message lists everything wrong with it."""


class Stopped(BaseException):
    """Takes an error past Hydra, which only warns of one in a callback, and comments on one in a job.

    `traceback` is whether the config wants to see where the error comes from.
    """

    def __init__(self, error: Exception, traceback: bool) -> None:
        super().__init__(error, traceback)
        self.error, self.traceback = error, traceback


class Trials:
    """What this process has tried, with the problem that each showed: nothing is tried twice."""

    def __init__(self) -> None:
        self._problems: dict[str, str | None] = {}

    def cache_clear(self) -> None:
        self._problems.clear()

    def once(self, key: str, attempt: Callable[[], None]) -> None:
        """Raise the ConfigError that `attempt` raises, or raised when `key` was tried before."""
        if key not in self._problems:
            try:
                attempt()
                self._problems[key] = None
            except ConfigError as error:
                self._problems[key] = str(error)
        if problem := self._problems[key]:
            raise ConfigError(problem)


class DataError(KdsweepError):
    """A data set that is missing or wrong."""


class DiskFull(KdsweepError):
    """The store's disk has no room for an entry."""


class TrainingError(KdsweepError):
    """A training that cannot continue, such as one whose loss is no longer a number."""


class Pruned(KdsweepError):
    """A search stopped a trial that does worse than others. This is no failure."""


class AskedToLeave(KdsweepError):
    """A job had to end early through no fault of its own, such as when its time is up."""


def disk_is_full(error: BaseException, where: Path, remedy: str = UNUSED) -> str | None:
    """The message for a full disk at `where`; None for any other error."""
    code = system_error_number(error)
    if code is None or code not in FULL:
        return None
    folder = next(folder for folder in (where, *where.absolute().parents) if folder.exists())
    free = shutil.disk_usage(folder).free
    size = f"{free / 1e9:,.1f} GB" if free >= 1e9 else f"{free / 1e6:,.1f} MB"
    return (
        f"{where}: {os.strerror(code)}, {size} are free there; make room, perhaps by {remedy}, then run the "
        "same command to resume"
    )


def wants_traceback(config: Any = None) -> bool:
    """Whether tracebacks are wanted: by a config's `debug`, or by HYDRA_FULL_ERROR=1."""
    if os.environ.get(TRACEBACKS, os.environ.get("HYDRA_FULL_ERROR")) == "1":
        return True
    if config is not None:
        from omegaconf.errors import OmegaConfBaseException  # kdsweep-predict runs without OmegaConf

        with suppress(OmegaConfBaseException):
            return config.get("debug") is True
    return False


def tell(error: Exception, name: str = "kdsweep") -> None:
    """Explain `error` on stderr; with debug=true, print its traceback too."""
    if wants_traceback():
        traceback.print_exception(error)
    say(f"{name}: {explain(error)}", sys.stderr)


def explain(error: BaseException) -> str:
    """Explain an error in a line or two."""
    if isinstance(error, KdsweepError):
        return str(error)
    if is_out_of_memory(error):
        wanted = memory_wanted(error)
        why = f"tried to allocate {wanted}" if wanted else type(error).__name__
        return (
            f"out of memory ({why}): try a smaller training.batch_size, or fewer jobs at a time: "
            "a smaller hardware.jobs, on GPUs a larger hardware.gpus_per_job"
        )
    if full := disk_is_full(error, Path(getattr(error, "filename", None) or ".").parent):
        return full
    if isinstance(error, OSError) and error.strerror:
        return f"{_shortened(error.filename)}: {error.strerror}" if error.filename else error.strerror
    with suppress(ImportError):  # kdsweep-predict runs without Hydra
        from kdsweep.system.hydra_errors import hydra_says

        if explanation := hydra_says(error):
            return explanation
    if has_no_home(error):
        return "~: your home directory is unknown; set HOME, or give an absolute path"
    return f"{type(error).__name__}: {error}\n(unexpected; debug=true, or HYDRA_FULL_ERROR=1, shows where)"


def _shortened(name: object) -> str:
    text = os.fsdecode(name) if isinstance(name, str | bytes) else str(name)
    return text if len(text) <= LONGEST_NAME else f"{text[:LONGEST_NAME]}…"


def without_passwords(text: str) -> str:
    """The text with *** in place of the passwords of its URLs, so that it may be printed and stored."""
    return re.sub(r"(://[^:/@\s]*):[^@\s]+@", r"\1:***@", text)
