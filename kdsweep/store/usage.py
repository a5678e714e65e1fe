"""The entries of a store, the runs that need them, and what may be removed."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import AwareDatetime, BaseModel

from kdsweep.errors import KdsweepError
from kdsweep.results.result import RESULT
from kdsweep.stage import canonical
from kdsweep.store.origin import ENTRY
from kdsweep.store.store import ANSWERS, REMOVED, Store, size_of
from kdsweep.store.unfinished import epochs_done

KEY_DIGITS = 32
# files that reveal the kind of an entry whose description is damaged
FILES = {
    "stage.json": "stage",
    "logits.safetensors": "logits",
    "embedding.safetensors": "embedding",
    ANSWERS: "answers",
    "evaluation.json": "evaluation",
    "cost.json": "cost",
    "images.npy": "pixels",
    "digests.json": "digests",
}


class Entry(BaseModel, frozen=True, extra="ignore"):
    """A finished entry, as its entry.json describes it; `described` is false if that is damaged."""

    key: str
    folder: Path
    kind: str
    bytes: int
    made: AwareDatetime
    network: str = ""
    role: str = ""
    seconds: float | None = None
    parents: tuple[str, ...] = ()
    made_from: dict[str, Any] = {}
    described: bool = True

    @property
    def of(self) -> list[str]:
        """The stages that it describes, and without which it is useless; none for a stage itself."""
        if self.kind in ("logits", "embedding", "answers"):
            return list(self.parents)
        members = self.made_from.get("evaluation")
        return list(members) if isinstance(members, list) else []


@dataclass(frozen=True)
class Unfinished:
    """A training that was interrupted, with what it needs to resume."""

    key: str
    folder: Path
    bytes: int
    epochs: int
    changed: datetime


@dataclass(frozen=True)
class Use:
    """An MLflow run, or a job's folder, and the keys that it needs."""

    name: str
    keys: tuple[str, ...]


def read_entries(store: Store) -> dict[str, Entry]:
    """The finished entries by key, oldest first, without checking their checksums."""
    found = [_entry(folder) for folder in store.root.iterdir() if _is_key(folder.name)]
    return {entry.key: entry for entry in sorted(found, key=lambda entry: entry.made)}


def _is_key(name: str) -> bool:
    return len(name) == KEY_DIGITS and set(name) <= set("0123456789abcdef")


def _entry(folder: Path) -> Entry:
    known: dict[str, Any] = {"key": folder.name, "folder": folder, "bytes": size_of(folder)}
    try:
        return Entry(**{**json.loads((folder / ENTRY).read_bytes()), **known})
    except (OSError, ValueError, TypeError):  # it is missing or damaged
        kind = next((kind for file, kind in FILES.items() if (folder / file).exists()), "unknown")
        changed = datetime.fromtimestamp(folder.lstat().st_mtime, UTC)
        return Entry(**known, kind=kind, made=changed, described=False)


def read_unfinished(store: Store) -> list[Unfinished]:
    found = []
    for folder in sorted((store.root / "unfinished").iterdir()):
        times = [file.lstat().st_mtime for file in list(folder.glob("*")) or [folder]]
        changed = datetime.fromtimestamp(max(times), UTC)
        found.append(Unfinished(folder.name, folder, size_of(folder), epochs_done(folder), changed))
    return found


def damaged(store: Store) -> list[Path]:
    """Folders of entries that were set aside."""
    return sorted((store.root / "damaged").iterdir())


def read_uses(runs: Iterable[tuple[str, str, Sequence[str], bool]], folders: Sequence[Path]) -> list[Use]:
    """The uses of entries: by undeleted `runs` (id, name, keys, whether deleted), and by results of jobs
    below `folders` whose runs are unknown."""
    uses, known = [], set()
    for run_id, name, keys, deleted in runs:
        known.add(run_id)
        if keys and not deleted:
            uses.append(Use(f"run {name} ({run_id[:8]})", tuple(keys)))
    for file in sorted(file for folder in folders for file in folder.rglob(RESULT)):
        run, needed = _needed(file)
        if run not in known:
            uses.append(Use(str(file.parent), needed))
    return uses


def _needed(file: Path) -> tuple[str | None, tuple[str, ...]]:
    """The run of a job's result, and the keys that it needs. Raises KdsweepError if it is damaged."""
    try:
        result = json.loads(file.read_bytes())
        keys = [*result["entries"], *(each["key"] for each in result["networks"].values())]
        return result["run_id"], tuple(dict.fromkeys(keys))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise KdsweepError(
            f"{file}: is damaged, so it does not show what its job needs; remove it, or give other --results"
        ) from error


def kept(entries: Mapping[str, Entry], uses: Iterable[Use]) -> set[str]:
    """The keys that uses need: stages with all their teachers, and what was computed from those.

    An entry with a damaged description is kept.
    """
    keep = {key for use in uses for key in use.keys if key in entries}
    waiting = list(keep)
    while waiting:
        entry = entries[waiting.pop()]
        above = entry.parents if entry.kind == "stage" else entry.of
        new = {key for key in above if key in entries} - keep
        keep |= new
        waiting += new
    networks = {
        _network(entry.made_from) for entry in entries.values() if entry.kind == "stage" and entry.key in keep
    }
    for entry in entries.values():
        derived = entry.of and keep.issuperset(entry.of)
        priced = entry.made_from.get("latency", [entry.made_from])
        measured = isinstance(priced, list) and any(
            isinstance(each, dict)
            and "cost" in each
            and _network({**each, "model": each["cost"]}) in networks
            for each in priced
        )
        if derived or measured or not entry.described:
            keep.add(entry.key)
    return keep


def _network(description: Mapping[str, Any]) -> str:
    network = {"model": description.get("model"), "source": description.get("source")}
    return json.dumps(canonical(network), sort_keys=True)


def with_derived(keys: Iterable[str], entries: Mapping[str, Entry]) -> set[str]:
    """The keys, and those of what was computed from the stages among them."""
    chosen = set(keys)
    return chosen | {entry.key for entry in entries.values() if chosen.intersection(entry.of)}


def find(prefix: str, entries: Mapping[str, Entry]) -> Entry:
    """The entry whose key begins with `prefix`. Raises KdsweepError if there is none, or several."""
    found = [entry for key, entry in entries.items() if key.startswith(prefix)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise KdsweepError(f"{prefix}: no such entry; `kdsweep-store list --all` shows them")
    raise KdsweepError(f"{prefix}: fits several keys: {', '.join(entry.key[:12] for entry in found[:5])}")


def leftovers(store: Store) -> Iterator[Path]:
    """Folders that a killed removal or a killed maker left behind."""
    yield from (store.root / REMOVED).glob("*")
    for folder in store.root.glob(".*-*"):
        name, _, drawn = folder.name[1:].rpartition("-")
        is_folder = folder.is_dir() and not folder.is_symlink()
        if not _is_key(name) or not re.fullmatch("[a-z0-9_]{8}", drawn) or not is_folder:
            continue  # the store gives no such name
        try:
            with FileLock(store.root / "locks" / f"{name}.lock", timeout=0):
                yield folder
        except Timeout:
            continue
