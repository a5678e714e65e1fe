"""Explain errors of Hydra and OmegaConf in terms of the command line."""

import difflib
import logging.config
import traceback
from collections.abc import Iterable
from types import FrameType

from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from kdsweep.system.foreign_errors import first_line

NOT_A_CHOICE = "Config group override must be"
LIBRARIES = ("hydra", "omegaconf", "hydra_plugins")
LOGGING, COMMAND_LINE = "hydra.job_logging or hydra.hydra_logging", "Hydra does not take the command line"


def hydra_says(error: BaseException) -> str | None:
    """What is wrong with the command line; None unless Hydra or OmegaConf refused it."""
    cause = error.__cause__
    if isinstance(cause, ConfigKeyError | ConfigAttributeError) and cause.parent_node is not None:
        return unknown_key(str(cause.full_key), map(str, cause.parent_node))
    if isinstance(error, OverrideParseException):
        return _unreadable(error)
    if isinstance(error, MissingConfigException) and error.options:
        return f"{error.missing_cfg_file}: no such option; allowed: {', '.join(error.options)}"
    if isinstance(error, HydraException):
        return f"{error}: {first_line(cause)}" if isinstance(cause, OmegaConfBaseException) else str(error)
    if isinstance(error, OmegaConfBaseException):
        return unresolved(error)
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    if frames and str(error).startswith(NOT_A_CHOICE):
        return _not_a_choice(frames[-1])
    modules = [str(frame.f_globals.get("__name__")) for frame in frames]
    ours = [name for name in modules if name.partition(".")[0] in ("kdsweep", *LIBRARIES)]
    if not ours or ours[-1].startswith("kdsweep"):
        return None  # not Hydra's
    kind = "" if isinstance(error, ValueError) else f"{type(error).__name__} "
    text = kind + " ".join(str(error).split())
    why = f": {first_line(error.__cause__)}" if error.__cause__ else ""
    return f"{LOGGING if logging.config.__name__ in modules else COMMAND_LINE}: {text}{why}"


def unresolved(error: Exception) -> str:
    """The message for an interpolation that refers to nothing, or to itself."""
    key = getattr(error, "full_key", None)
    return f"{f'{key}: ' if key else ''}the config does not resolve: {first_line(error)}"


def _unreadable(error: OverrideParseException) -> str:
    given, lines = error.override, error.message.splitlines()
    why = next((line for line in lines[1:] if "Error parsing" not in line), lines[0])
    if "=" not in given:
        return f"{given or repr(given)}: must be KEY=VALUE, such as temperature=4, or an option, such as -m"
    key, _, value = given.partition("=")
    if not key.strip():
        return f"{given}: has no key before the =; give KEY=VALUE, such as temperature=4"
    if key != key.strip() or value.startswith(" "):
        return f"{given}: must have no blanks around the =; give {key.strip()}={value.strip()}"
    quoted = "'" + f'{key}="{value}"' + "'"
    return f"{given}: cannot be read ({why}); a text with special signs is quoted twice: {quoted}"


def _not_a_choice(frame: FrameType) -> str:
    """The message for a group whose value names no file; Hydra's own frame has the group."""
    override, repository = frame.f_locals.get("override"), frame.f_locals.get("repo")
    if not isinstance(override, Override) or repository is None:
        return "a group must be given the name of one of its files"
    if not override.key_or_group:
        return f"{override.input_line}: has no key before the =; give KEY=VALUE, such as temperature=4"
    allowed = ", ".join(repository.get_group_options(override.key_or_group))
    return f"{override.input_line}: must be one of its files; allowed: {allowed}"


def unknown_key(key: str, known: Iterable[str]) -> str:
    """The message for an unknown key, with the nearest known one."""
    *parents, last = key.split(".")
    prefix = "".join(f"{part}." for part in parents)
    known = sorted(known)
    near = difflib.get_close_matches(last, known, n=1)
    hint = f"did you mean {prefix}{near[0]}?" if near else f"allowed: {', '.join(known)}"
    if not known:
        hint = f"{'.'.join(parents)} has no keys; +{key}=… adds one"
    return f"{key}: no such key; {hint}"
