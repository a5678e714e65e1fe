"""The output of `kdsweep-store` about a store."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from kdsweep.results.network import Selection
from kdsweep.store.store import Store, size_of
from kdsweep.store.usage import Entry, Use, damaged, kept, read_entries, read_unfinished, with_derived
from kdsweep.system.table import Column, Fitting
from kdsweep.system.terminal import console, size

DERIVED = ("logits", "embedding", "answers", "evaluation", "cost", "latency")  # folded into their stages
UNITS = (("d", 24 * 3600), ("h", 3600), ("min", 60))


def show_entries(store: Store, uses: Sequence[Use] | None, everything: bool) -> None:
    """Print a table of stages and decoded images with what was computed from them, or of `everything`."""
    entries = read_entries(store)
    keep = None if uses is None else kept(entries, uses)
    table = Fitting(
        [
            Column("key", right=False),
            Column("kind", right=False, worth=3),
            Column("role", right=False, worth=1),
            Column("network", right=False),
            Column("size", worth=2),
            Column("age", worth=0),
            Column("used by", right=False, wraps=True),
        ]
    )
    for key, entry in entries.items():
        if entry.kind in DERIVED and entry.described and not everything:
            continue
        with_it = [key] if everything else with_derived([key], entries)
        bytes_of = sum(entries[each].bytes for each in with_it)
        cells = (key[:8], entry.kind, entry.role, entry.network, size(bytes_of), age(entry.made))
        style = "dim" if keep is not None and key not in keep else None
        table.add([*cells, _used(entry, uses, keep)], style)
    for each in read_unfinished(store):
        cells = (each.key[:8], "unfinished", "", f"{each.epochs} epochs", size(each.bytes), age(each.changed))
        table.add([*cells, ""])
    for folder in damaged(store):
        changed = datetime.fromtimestamp(folder.stat().st_mtime, UTC)
        table.add([folder.name[:8], "damaged", "", "", size(size_of(folder)), age(changed), ""])
    screen = console()
    if table.rows:
        screen.print(table, "", sep="\n", markup=False)
    unused = [] if keep is None else [entry for key, entry in entries.items() if key not in keep]
    total = f"{len(entries)} entries, {size(size_of(store.root))} in {store.root}"
    answers = [entry for entry in entries.values() if entry.kind == "answers"]
    said = f"; answers to augmented images: {_together(answers)}" if answers else ""
    rest = "" if keep is None else f"; unused: {_together(unused)}"
    screen.print(total + said + rest, markup=False)


def _together(entries: Sequence[Entry]) -> str:
    return f"{len(entries)}, {size(sum(entry.bytes for entry in entries))}"


def entries_as_json(store: Store, uses: Sequence[Use] | None) -> str:
    """The whole store; `used_by` and `kept` are null if the uses are unknown."""
    entries = read_entries(store)
    keep = None if uses is None else kept(entries, uses)
    unfinished = [
        {"key": each.key, "bytes": each.bytes, "epochs": each.epochs, "changed": each.changed.isoformat()}
        for each in read_unfinished(store)
    ]
    content = {
        "store": str(store.root),
        "bytes": size_of(store.root),
        "entries": [_as_dict(entry, uses, keep) for entry in entries.values()],
        "unfinished": unfinished,
        "damaged": [{"folder": str(folder), "bytes": size_of(folder)} for folder in damaged(store)],
    }
    return json.dumps(content, indent=1)


def entry_as_json(entry: Entry, entries: Mapping[str, Entry], uses: Sequence[Use] | None) -> str:
    """One entry with its files, what it was made from and, for a stage, its training."""
    content = _as_dict(entry, uses, None if uses is None else kept(entries, uses))
    content["files"] = {file.name: file.stat().st_size for file in sorted(entry.folder.iterdir())}
    content["made_from"] = entry.made_from
    if entry.kind == "stage":
        record = json.loads((entry.folder / "stage.json").read_text())
        content |= {name: record[name] for name in ("best_epoch", "history", "made_by")}
    return json.dumps(content, indent=1)


def _as_dict(entry: Entry, uses: Sequence[Use] | None, keep: set[str] | None) -> dict[str, Any]:
    return {
        "key": entry.key,
        "kind": entry.kind,
        "role": entry.role,
        "network": entry.network,
        "bytes": entry.bytes,
        "made": entry.made.isoformat(),
        "seconds": entry.seconds,
        "parents": list(entry.parents),
        "used_by": None if uses is None else _users(entry, uses),
        "kept": None if keep is None else entry.key in keep,
    }


def _users(entry: Entry, uses: Sequence[Use]) -> list[str]:
    return [use.name for use in uses if entry.key in use.keys]


def _used(entry: Entry, uses: Sequence[Use] | None, keep: set[str] | None) -> str:
    if uses is None or keep is None:
        return "?"
    if entry.key not in keep:
        return "nobody"
    by = _users(entry, uses)
    if not by:
        return "stages that are used" if entry.described else "unknown"
    return by[0] if len(by) == 1 else f"{len(by)} jobs"


def show_entry(entry: Entry, entries: Mapping[str, Entry], uses: Sequence[Use] | None) -> None:
    """Print an entry's description, training, parents, files and uses."""
    lines = {"key": entry.key, "kind": entry.kind, "network": entry.network, "role": entry.role}
    lines["made"] = f"{entry.made:%Y-%m-%d %H:%M} UTC, {age(entry.made)} ago"
    if entry.kind == "stage":
        lines |= _training(entry)
    for parent in entry.parents:
        source = entries.get(parent)
        lines[f"from {parent[:8]}"] = (
            f"{source.kind} {source.network}" if source else "no longer in the store"
        )
    for file in sorted(entry.folder.iterdir()):
        lines[file.name] = size(file.stat().st_size)
    if uses is not None:
        lines["used by"] = "\n".join(_users(entry, uses)) or "no job directly"
    lines["made from"] = json.dumps(entry.made_from, indent=1)
    for name, value in lines.items():
        if value:
            print(f"{name:<20} " + value.replace("\n", "\n" + " " * 21))


def _training(entry: Entry) -> dict[str, str]:
    record = json.loads((entry.folder / "stage.json").read_text())
    val = Selection.of_epoch(record["history"][record["best_epoch"] - 1])
    best = f"epoch {record['best_epoch']} of {len(record['history'])}"
    return {
        "best": f"{best}, val {val.accuracy:.2%}" if val else best,
        "trained in": f"{record['seconds']:.1f} s",
        "made by": ", ".join(f"{name} {value}" for name, value in record["made_by"].items()),
    }


def age(since: datetime) -> str:
    seconds = max(0.0, (datetime.now(UTC) - since).total_seconds())
    for unit, length in UNITS:
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
