"""Entries are whole or absent, made once, and damage is noticed."""

import errno
import json
import logging
import multiprocessing
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kdsweep import store as store_module
from kdsweep.errors import KdsweepError
from kdsweep.store import ENTRY, SUMS, Busy, Origin, Store, size_of

MADE = Origin("made", {"a": 1})


def write(text: str):
    return lambda folder: (folder / "file").write_text(text)


def forget() -> None:
    """As in a new process, which reads the checksums again."""
    store_module._verified.clear()


def test_an_entry_is_made_once(tmp_path):
    store = Store(tmp_path / "store")
    entry, there = store.obtain("key", write("first"), origin=MADE)
    again, there_again = store.obtain("key", write("second"), origin=MADE)
    assert (there, there_again) == (False, True)
    assert entry == again
    assert (entry / "file").read_text() == "first"
    assert store.find("other") is None


def test_a_maker_that_fails_leaves_nothing(tmp_path):
    store = Store(tmp_path)

    def fail(folder: Path) -> None:
        (folder / "file").write_text("half")
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError):
        store.obtain("key", fail, origin=MADE)
    assert store.find("key") is None
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert store.obtain("key", write("whole"), origin=MADE)[1] is False


@pytest.mark.parametrize("damage", ["changed", "cut", "removed", "no sums", "empty sums", "nonsense sums"])
def test_damage_is_set_aside_and_made_anew(tmp_path, caplog, damage):
    store = Store(tmp_path)
    entry, _ = store.obtain("key", write("right"), origin=MADE)
    file, sums = entry / "file", entry / SUMS
    {
        "changed": lambda: file.write_text("wrong"),
        "cut": lambda: file.write_text("rig"),
        "removed": file.unlink,
        "no sums": sums.unlink,
        "empty sums": lambda: sums.write_text(""),
        "nonsense sums": lambda: sums.write_text("?"),
    }[damage]()
    forget()
    with caplog.at_level(logging.WARNING):
        entry, there = store.obtain("key", write("right again"), origin=MADE)
    assert not there
    assert (entry / "file").read_text() == "right again"
    assert len(list((tmp_path / "damaged").iterdir())) == 1
    assert "damaged" in caplog.text


def test_what_a_killed_maker_left_is_cleared(tmp_path):
    store = Store(tmp_path)
    (tmp_path / ".key-left").mkdir(parents=True)
    (tmp_path / ".other-left").mkdir()
    store.obtain("key", write("made"), origin=MADE)
    assert not (tmp_path / ".key-left").exists()
    assert (tmp_path / ".other-left").exists()


def test_sums_are_those_of_sha256sum(tmp_path):
    entry, _ = Store(tmp_path).obtain("key", write("abc"), origin=MADE)
    sums = (entry / SUMS).read_text().splitlines()
    assert sums[1] == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  file"
    assert [line.split()[1] for line in sums] == ["entry.json", "file"]


def test_an_entry_says_what_it_is(tmp_path):
    origin = Origin("logits", {"logits": "a", "split": "val"}, ["a"], "mlp", "student")
    entry, _ = Store(tmp_path).obtain("key", write("abc"), origin=origin)
    told = json.loads((entry / ENTRY).read_text())
    assert (told["key"], told["kind"], told["parents"], told["network"]) == ("key", "logits", ["a"], "mlp")
    assert told["made_from"] == {"logits": "a", "split": "val"}
    assert told["by"]["host"] and told["seconds"] >= 0
    assert datetime.now(UTC) - datetime.fromisoformat(told["made"]) < timedelta(minutes=5)


def test_an_entry_of_an_older_store_is_found(tmp_path):
    store = Store(tmp_path)
    entry, _ = store.obtain("key", write("abc"), origin=MADE)
    (entry / ENTRY).unlink()
    (entry / SUMS).write_text("".join((entry / SUMS).read_text().splitlines(keepends=True)[1:]))
    forget()
    assert store.obtain("key", write("other"), origin=MADE) == (entry, True)


def test_who_does_not_want_to_wait_is_told(tmp_path):
    store = Store(tmp_path)

    def make(folder: Path) -> None:
        with pytest.raises(Busy):
            Store(tmp_path).obtain("key", write("other"), origin=MADE, wait=False)
        (folder / "file").write_text("made")

    assert store.obtain("key", make, origin=MADE)[1] is False
    assert store.obtain("key", make, origin=MADE, wait=False)[1] is True


class SafetensorError(Exception):
    """As safetensors raises it: the system's error in its text alone."""


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), OSError(errno.EDQUOT, "Disk quota exceeded"),
     SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")],
)  # fmt: skip
def test_a_full_disk_is_told_and_leaves_nothing(tmp_path, error):
    store = Store(tmp_path)

    def fill(folder: Path) -> None:
        (folder / "file").write_text("half")
        raise error

    with pytest.raises(
        KdsweepError, match=r"store=.*: (No space|Disk quota).*[GM]B are free.* remove --unused"
    ):
        store.obtain("key", fill, origin=MADE)
    assert store.find("key") is None and not list(tmp_path.glob(".key*"))
    assert store.obtain("key", write("whole"), origin=MADE)[1] is False


def test_a_store_has_a_budget(tmp_path):
    Store(tmp_path).obtain("key", lambda folder: (folder / "file").write_bytes(bytes(10**6)), origin=MADE)
    assert 10**6 < size_of(tmp_path) < 1.01 * 10**6
    Store(tmp_path).check_budget()
    Store(tmp_path, budget=0.0011).check_budget()
    with pytest.raises(KdsweepError, match=r"store_budget=0.0009: .* has 0.001 GB; .*remove --unused"):
        Store(tmp_path, budget=0.0009).check_budget()


def _slow_maker(root: str, queue) -> None:
    made, waited = [], []

    def make(folder: Path) -> None:
        time.sleep(0.5)
        (folder / "file").write_text("made")
        made.append(1)

    Store(root).obtain("key", make, lambda: waited.append(1), origin=MADE)
    queue.put((len(made), len(waited)))


def test_processes_that_need_one_key_make_it_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    processes = [context.Process(target=_slow_maker, args=(str(tmp_path), queue)) for _ in range(3)]
    for process in processes:
        process.start()
    outcomes = [queue.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert sum(made for made, _ in outcomes) == 1


def test_unfinished_work_goes_when_the_entry_is_there(tmp_path):
    store = Store(tmp_path)
    store.unfinished("key").mkdir()
    (store.unfinished("key") / "checkpoint").write_text("…")
    store.obtain("key", write("done"), origin=MADE)
    assert not store.unfinished("key").exists()


def test_a_store_that_cannot_be_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(KdsweepError, match="store="):
        Store(tmp_path / "file")
