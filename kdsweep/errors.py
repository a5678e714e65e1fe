"""What a person can mend is a KdsweepError: its message is shown, its traceback is not."""

import difflib
import os
import sys
import traceback
from collections.abc import Iterable

from hydra.errors import HydraException, MissingConfigException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError

# Read before the command sets the variable for its own purpose.
_TRACEBACKS = os.environ.get("HYDRA_FULL_ERROR") == "1" or "debug=true" in map(str.lower, sys.argv)


class KdsweepError(Exception):
    """Says what is wrong, where, what is allowed and what to do, in one or two lines."""


class ConfigError(KdsweepError):
    """A composed config that cannot be run; the message lists everything wrong with it."""


class DataError(KdsweepError):
    """A data set that is not there, or is not what it should be."""


class TrainingError(KdsweepError):
    """A training that cannot go on, such as one whose loss is no longer a number."""


class Pruned(KdsweepError):
    """A search has stopped a trial that does worse than others; no failure."""


def wants_traceback(debug: bool | None) -> bool:
    """Whether tracebacks are asked for: by the config's `debug`, in the command or by HYDRA_FULL_ERROR=1."""
    return bool(debug) or _TRACEBACKS


def tell(error: Exception, debug: bool | None = None) -> None:
    """Say on stderr what a person needs to know of `error`; with debug=true, its traceback too."""
    if wants_traceback(debug):
        traceback.print_exception(error)
    print(f"kdsweep: {explain(error)}", file=sys.stderr)


def explain(error: BaseException) -> str:
    """An error in a line or two."""
    cause = error.__cause__
    if isinstance(cause, ConfigKeyError | ConfigAttributeError) and cause.parent_node is not None:
        return unknown_key(str(cause.full_key), map(str, cause.parent_node))
    if isinstance(error, MissingConfigException) and error.options:
        return f"{error.missing_cfg_file}: no such option; allowed: {', '.join(error.options)}"
    if isinstance(error, KdsweepError | HydraException):
        return str(error)
    return f"{type(error).__name__}: {error}\n(unexpected; debug=true shows where)"


def unknown_key(key: str, known: Iterable[str]) -> str:
    """The line for a key that does not exist, with the nearest one that does."""
    *parents, last = key.split(".")
    prefix = "".join(f"{part}." for part in parents)
    known = sorted(known)
    near = difflib.get_close_matches(last, known, n=1)
    hint = f"did you mean {prefix}{near[0]}?" if near else f"allowed: {', '.join(known)}"
    return f"{key}: no such key; {hint}"
