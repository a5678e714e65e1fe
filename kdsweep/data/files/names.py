"""Names as people and disks write them: of splits, of classes, and of files that programs leave behind."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

# names of folders, and of partitions in tables, in any case; the first existing one counts
SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev", "development"),
    "test": ("test", "testing"),
}
SPLIT_OF = {name: split for split, names in SPLITS.items() for name in names}

# files that archives, file managers and notebooks leave among images
LITTER = ("__macosx", "@eadir", "@tmp", "#recycle", "$recycle.bin", "system volume information",
          "lost+found", "__pycache__", ".ipynb_checkpoints", ".ds_store", "thumbs.db", "ehthumbs.db",
          "desktop.ini")  # fmt: skip

NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")


def litter(name: str) -> str | None:
    """The name under which a file or folder counts as litter, if a program left it behind."""
    if name.startswith("._"):  # macOS, beside each file on other disks
        return "._*"
    return name if name.casefold() in LITTER else None


def printable(name: str) -> str:
    """A name as one line of UTF-8, whatever its bytes on disk."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(
        each.encode("unicode_escape").decode() if unicodedata.category(each) in ("Cc", "Zl", "Zp") else each
        for each in text
    )


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Each name once: numbers ordered by value, other names by letters."""
    ordered = sorted(set(names))
    if all(NUMBER.fullmatch(name) for name in ordered):
        ordered.sort(key=float)
    return tuple(ordered)


def alike(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Groups of names that differ only in case, blanks or the like."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[_loosely(name)].append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def _loosely(name: str) -> str:
    text = unicodedata.normalize("NFKC", name).casefold().strip()
    return str(float(text)) if NUMBER.fullmatch(text) else " ".join(re.split(r"[\s_-]+", text)).strip()


def meant(text: str, names: Sequence[str]) -> list[str]:
    """The names that a config's `text` means: YAML reads a bare yes as `true`, and 007 as 7.

    The list is empty if there is no such name, and has several if YAML reads them alike and none is `text`.
    """
    if text in names:
        return [text]
    value = _as_yaml(text)
    if isinstance(value, str):
        return []
    return [name for name in names if (type(read := _as_yaml(name)), read) == (type(value), value)]


def _as_yaml(text: str) -> Any:
    import yaml  # here, because kdsweep-predict runs without it

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text
