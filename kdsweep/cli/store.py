"""The command `kdsweep-store`: list, show, verify and remove what the store holds."""

import argparse
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from kdsweep.cli import console
from kdsweep.config.defaults import configured
from kdsweep.system.exits import DONE, FAILED

if TYPE_CHECKING:
    from kdsweep.store.store import Store
    from kdsweep.store.usage import Entry, Use

MOST_DAYS = 36500
RESULTS = [Path("multirun"), Path("outputs")]

EXAMPLES = """
kdsweep-store list                       list the entries, their sizes and the runs that use them
kdsweep-store show 3f2a                  show one entry, by the first digits of its key
kdsweep-store remove --unused            remove what no run needs, after asking
kdsweep-store remove --answers           remove teachers' answers to augmented images, after asking
"""


def main() -> None:
    """The `kdsweep-store` command. Exit status 0: done, 1: a mistake or damage, 2: interrupted."""
    console.run(_parser(), _run)


def _parser() -> argparse.ArgumentParser:
    parser = console.parser("kdsweep-store", "List, verify and remove what the store holds.", EXAMPLES)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--store", help="folder of the store (default: the config's)")
    common.add_argument(
        "--tracking-uri",
        help="MLflow, whose runs use the store (default: the config's)",
    )
    common.add_argument(
        "--results",
        type=Path,
        nargs="*",
        default=RESULTS,
        metavar="FOLDER",
        help="folders of sweeps and jobs that MLflow may not know (default: multirun, outputs)",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", parents=[common], help="list the entries, their sizes and users")
    listing.add_argument("--all", action="store_true", help="list what was computed from stages too")
    listing.add_argument("--json", action="store_true", help="print everything as JSON")
    show = commands.add_parser("show", parents=[common], help="show what an entry is and where it came from")
    show.add_argument("key", help="the first digits of its key")
    show.add_argument("--json", action="store_true", help="print everything as JSON")
    verify = commands.add_parser(
        "verify", parents=[common], help="verify all checksums; exit status 1 if any is wrong"
    )
    verify.add_argument("--json", action="store_true", help="print the damage as JSON")
    remove = commands.add_parser(
        "remove",
        parents=[common],
        help="remove entries, after asking",
        description="Removes entries, and what was computed from them, after asking. Unless you name it, an "
        "entry is kept while any undeleted MLflow run needs it, or any result.json whose run MLflow does not "
        "know; so are the stages that taught it. What a running job makes is always kept.",
    )
    remove.add_argument("keys", nargs="*", metavar="KEY", help="the first digits of keys, used or not")
    remove.add_argument("--unused", action="store_true", help="remove what no kept run or result needs")
    remove.add_argument(
        "--answers",
        action="store_true",
        help="remove what teachers said of augmented images, used or not; sweeps ask again as they need it",
    )
    remove.add_argument(
        "--unfinished",
        type=_days,
        metavar="DAYS",
        help="remove checkpoints of trainings that were interrupted at least this many days ago",
    )
    remove.add_argument("--damaged", action="store_true", help="remove entries set aside as damaged")
    remove.add_argument("--yes", action="store_true", help="do not ask")
    return parser


def _days(text: str) -> float:
    """A number of days, for argparse."""
    try:
        days = float(text)
    except ValueError:
        days = -1.0
    if not 0 <= days <= MOST_DAYS:  # NaN is not
        raise argparse.ArgumentTypeError(f"{text}: must be a number of days, 0 to {MOST_DAYS}")
    return days


def _run(options: argparse.Namespace) -> int:
    from kdsweep.errors import KdsweepError
    from kdsweep.store.store import MARKER, Store

    missing = [folder for folder in options.results if not folder.is_dir()]
    if missing and options.results is not RESULTS:
        raise KdsweepError(f"--results {missing[0]}: no such folder; give folders of sweeps and jobs")
    options.tracking_uri = options.tracking_uri or configured("tracking.uri")
    root = Path(options.store or configured("store"))
    if not root.is_dir():
        raise KdsweepError(f"{root}: no such folder; give --store, or start where kdsweep was started")
    if not (root / MARKER).exists():
        raise KdsweepError(
            f"{root}: is no store of kdsweep; give --store, or start where kdsweep was started"
        )
    commands = {"list": _list, "show": _show, "verify": _verify, "remove": _remove}
    return commands[options.command](options, Store(root))


def _uses(options: argparse.Namespace) -> "list[Use]":
    from kdsweep.store.usage import read_uses
    from kdsweep.tracking import runs_of_store

    return read_uses(runs_of_store(options.tracking_uri), options.results)


def _uses_if_known(options: argparse.Namespace) -> "list[Use] | None":
    from kdsweep.errors import KdsweepError

    try:
        return _uses(options)
    except KdsweepError as error:
        print(f"kdsweep-store: cannot tell which runs use which entries: {error}", file=sys.stderr)
        return None


def _list(options: argparse.Namespace, store: "Store") -> int:
    from kdsweep.store.show import entries_as_json, show_entries

    uses = _uses_if_known(options)
    if options.json:
        print(entries_as_json(store, uses))
    else:
        show_entries(store, uses, options.all)
    return DONE


def _show(options: argparse.Namespace, store: "Store") -> int:
    from kdsweep.errors import KdsweepError
    from kdsweep.store.show import entry_as_json, show_entry
    from kdsweep.store.usage import find, read_entries

    entries, uses = read_entries(store), _uses_if_known(options)
    entry = find(options.key, entries)
    if damage := store.damage(entry.key):
        raise KdsweepError(
            f"{entry.key[:8]}: is damaged ({damage}); the next job that needs it makes it anew"
        )
    if options.json:
        print(entry_as_json(entry, entries, uses))
    else:
        show_entry(entry, entries, uses)
    return DONE


def _verify(options: argparse.Namespace, store: "Store") -> int:
    from kdsweep.store.usage import read_entries

    entries = read_entries(store)
    wrong = {}
    for key, entry in entries.items():
        if damage := store.damage(key):
            wrong[key] = damage
            if not options.json:
                print(f"damaged: {key} ({entry.kind} {entry.network}): {damage}")
    if options.json:
        print(json.dumps({"entries": len(entries), "damaged": wrong}, indent=1))
    elif wrong:
        print(
            f"{len(wrong)} of {len(entries)} entries are damaged; the next job that needs one makes it anew"
        )
    else:
        print(f"{len(entries)} entries are whole")
    return FAILED if wrong else DONE


def _remove(options: argparse.Namespace, store: "Store") -> int:
    from kdsweep.errors import KdsweepError
    from kdsweep.store.store import size_of
    from kdsweep.store.usage import (
        damaged,
        find,
        kept,
        leftovers,
        read_entries,
        read_unfinished,
        with_derived,
    )
    from kdsweep.system.terminal import size

    if not (
        options.keys or options.unused or options.answers or options.damaged or options.unfinished is not None
    ):
        raise KdsweepError("remove what? KEY…, --unused, --answers, --unfinished DAYS or --damaged")
    entries = read_entries(store)
    named = with_derived((find(prefix, entries).key for prefix in options.keys), entries)
    if options.answers:
        named |= {key for key, entry in entries.items() if entry.kind == "answers"}
    chosen = set(named)
    uses = _uses(options) if options.unused else _uses_if_known(options) or []
    if options.unused:
        chosen |= entries.keys() - kept(entries, uses)
    by = {key: [use.name for use in uses if key in use.keys] for key in chosen}
    going = [(key, entries[key].folder) for key in entries if key in chosen]
    if options.unfinished is not None:
        before = datetime.now(UTC) - timedelta(days=options.unfinished)
        going += [(each.key, each.folder) for each in read_unfinished(store)
                  if each.changed <= before]  # fmt: skip
    whole = [*(damaged(store) if options.damaged else []), *leftovers(store)]
    for line in _of_answers([entries[key] for key in chosen]):
        print(f"  {line}")
    for key, folder in going:
        if key in chosen and entries[key].kind == "answers":
            continue
        needed = f", needed by {', '.join(by[key][:3])}" if by.get(key) else ""
        print(f"  {key[:8]}  {_name(entries.get(key), folder)}, {size(size_of(folder))}{needed}")
    for folder in whole:
        print(f"  {folder.name}, {size(size_of(folder))}")
    total = sum(size_of(folder) for folder in (*(folder for _, folder in going), *whole))
    if not going and not whole:
        print("nothing to remove")
        return DONE
    if not options.yes and not _agreed(f"remove these {len(going) + len(whole)}, {size(total)}?"):
        print("nothing was removed")
        return DONE
    freed = 0
    needed_now = (
        kept(entries, _uses(options)) if options.unused else set()
    )  # a job may have started meanwhile
    for key, folder in going:
        if key in needed_now and key not in named:
            print(f"  {key[:8]} stays: a job needs it now")
            continue
        large = size_of(folder)
        if store.remove(key, folder):
            freed += large
        else:
            print(f"  {key[:8]} stays: a job is at work on it")
    for folder in whole:
        freed += size_of(folder)
        shutil.rmtree(folder, ignore_errors=True)
    print(f"freed {size(freed)}")
    return DONE


def _of_answers(entries: "Sequence[Entry]") -> Iterator[str]:
    """A line for each teacher, which may have said something of hundreds of epochs."""
    from kdsweep.system.terminal import size

    said: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.kind == "answers":
            said.setdefault(f"{', '.join(entry.parents)[:8]}  answers {entry.network}", []).append(entry)
    for name, epochs in sorted(said.items()):
        yield f"{name}, entries: {len(epochs)}, {size(sum(entry.bytes for entry in epochs))}"


def _name(entry: "Entry | None", folder: Path) -> str:
    if folder.parent.name == "unfinished" or entry is None:
        return "unfinished training"
    return " ".join(part for part in (entry.kind, entry.role, entry.network) if part)


def _agreed(question: str) -> bool:
    from kdsweep.errors import KdsweepError

    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        print()
        raise KdsweepError("nobody answered, nothing was removed; --yes removes without asking") from None


if __name__ == "__main__":
    main()
