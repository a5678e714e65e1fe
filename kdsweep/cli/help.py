"""The groups and keys of `kdsweep --help`, explained by the schema's docstrings.

The template in conf/config.yaml asks for them by the resolver `kdsweep.help`; in a template $ is doubled.
"""

import shutil
import textwrap
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic.fields import FieldInfo

from kdsweep.config import SAME, Config, Section

COLUMN = 36  # at which explanations begin
MOST = 110  # characters in a line
LONGEST = 48  # characters of a value; a network written layer by layer has more
RECIPE = "teacher.training"  # a composed config has no assistants, so no recipes of theirs
OTHER_GROUPS = {"experiment": "published experiments, as differences from the defaults"}


def explained(part: str, config: DictConfig) -> str:
    """The `part` of the help, "groups" or "keys", for a composed config."""
    lines = _groups(config) if part == "groups" else _keys(config, "", [Config])
    return "\n".join(_folded(*line) for line in lines).replace("$", "$$")


def _folded(argument: str, words: str) -> str:
    """An argument and, beside it or below, its meaning."""
    width = min(shutil.get_terminal_size().columns, MOST)
    beside = f"  {argument}".ljust(COLUMN - 1) + " "
    first = beside if len(beside) == COLUMN else " " * COLUMN
    if not words:
        return f"  {argument}"
    meaning = textwrap.fill(
        words, width, initial_indent=first, subsequent_indent=" " * COLUMN, break_long_words=False
    )
    return meaning if first == beside else f"  {argument}\n{meaning}"


def _groups(config: DictConfig) -> Iterator[tuple[str, str]]:
    loader = GlobalHydra.instance().config_loader()
    for group in _all_groups(loader, "", {"hydra"}):
        words = OTHER_GROUPS.get(group) or _words_of_group(group)
        chosen = config.hydra.runtime.choices.get(group)
        options = ", ".join(loader.get_group_options(group))
        yield f"{group}={chosen or 'null'}", f"{words} ({options})".strip()


def _all_groups(loader: ConfigLoader, above: str, others: set[str]) -> Iterator[str]:
    """The groups below a group; each is followed by the groups inside it."""
    for name in sorted(set(loader.list_groups(above)) - others):
        group = f"{above}/{name}" if above else name
        yield group
        yield from _all_groups(loader, group, others)


def _words_of_group(group: str) -> str:
    """The meaning of the section that a group's files fill."""
    sections: list[type[Section]] = [Config]
    field = None
    for name in group.split("/"):
        field = _field(sections, name)
        sections = _sections(field.annotation) if field else []
    return field.description or "" if field else ""


def _keys(config: DictConfig, prefix: str, sections: list[type[Section]]) -> Iterator[tuple[str, str]]:
    """Each key with its value and meaning; sections come last."""
    raw: Any = OmegaConf.to_container(config, resolve=False)
    for name in sorted(map(str, config), key=lambda name: isinstance(raw[name], dict)):
        key = f"{prefix}{name}"
        field, value = _field(sections, name), _value(config, name)
        if key == RECIPE:
            yield f"{key}.*", _words(field) if field else ""
        if key == "hydra" or (prefix.startswith(RECIPE) and raw[name] == SAME):  # most keys are the student's
            continue
        sections_below = _sections(field.annotation) if field else []
        if isinstance(value, DictConfig) and field and _have_names(field.annotation):
            yield f"{key}.*", _words(field)
            for each in map(str, value):
                yield from _keys(value[each], f"{key}.{each}.", sections_below)
        elif isinstance(value, DictConfig):
            if field and not sections_below:  # a component; the schema does not explain its options
                yield f"{key}.*", _words(field)
            yield from _keys(value, f"{key}.", sections_below)
        else:
            yield f"{key}={_shortened(_written(value))}", _words(field) if field else ""


def _value(config: DictConfig, name: str) -> Any:
    try:
        return config[name]
    except OmegaConfBaseException:  # it refers to nothing; a job's checks report it
        return "???"


def _field(sections: list[type[Section]], name: str) -> FieldInfo | None:
    for section in sections:
        for known, field in section.model_fields.items():
            if name == (field.alias or known):
                return field
    return None


def _sections(annotation: Any) -> list[type[Section]]:
    """The sections that a key's value may be."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [section for part in get_args(annotation) for section in _sections(part)]


def _have_names(annotation: Any) -> bool:
    """Whether a key holds sections by names that the user chooses, such as a method's terms."""
    return get_origin(annotation) is dict and bool(_sections(annotation))


def _words(field: FieldInfo) -> str:
    """The meaning of a key, and the values that it allows if the meaning does not name them."""
    words = field.description or ""
    allowed = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    unnamed = [value for value in allowed if value not in words]
    return f"{words} ({', '.join(allowed)})" if unnamed else words


def _shortened(value: str) -> str:
    return value if len(value) <= LONGEST else f"{value[: LONGEST - 1]}…"


def _written(value: Any) -> str:
    """A value as the command line takes it."""
    if isinstance(value, ListConfig | list):
        return f"[{','.join(map(_written, value))}]"
    if isinstance(value, DictConfig | dict):
        return "{" + ",".join(f"{key!s}:{_written(each)}" for key, each in value.items()) + "}"
    named = {None: "null", True: "true", False: "false"}
    return named[value] if value is None or isinstance(value, bool) else str(value)
