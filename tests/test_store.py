"""Entries are whole or absent, made once, and damage is noticed."""

import logging
import multiprocessing
import time
from pathlib import Path

import pytest

from kdsweep import store as store_module
from kdsweep.errors import KdsweepError
from kdsweep.store import SUMS, Store


def write(text: str):
    return lambda folder: (folder / "file").write_text(text)


def forget() -> None:
    """As in a new process, which reads the checksums again."""
    store_module._verified.clear()


def test_an_entry_is_made_once(tmp_path):
    store = Store(tmp_path / "store")
    entry, there = store.obtain("key", write("first"))
    again, there_again = store.obtain("key", write("second"))
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
        store.obtain("key", fail)
    assert store.find("key") is None
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert store.obtain("key", write("whole"))[1] is False


@pytest.mark.parametrize("damage", ["changed", "cut", "removed", "no sums", "empty sums", "nonsense sums"])
def test_damage_is_set_aside_and_made_anew(tmp_path, caplog, damage):
    store = Store(tmp_path)
    entry, _ = store.obtain("key", write("right"))
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
        entry, there = store.obtain("key", write("right again"))
    assert not there
    assert (entry / "file").read_text() == "right again"
    assert len(list((tmp_path / "damaged").iterdir())) == 1
    assert "damaged" in caplog.text


def test_what_a_killed_maker_left_is_cleared(tmp_path):
    (tmp_path / ".key-left").mkdir(parents=True)
    (tmp_path / ".other-left").mkdir()
    Store(tmp_path).obtain("key", write("made"))
    assert not (tmp_path / ".key-left").exists()
    assert (tmp_path / ".other-left").exists()


def test_sums_are_those_of_sha256sum(tmp_path):
    entry, _ = Store(tmp_path).obtain("key", write("abc"))
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  file\n"
    assert (entry / SUMS).read_text() == expected


def _slow_maker(root: str, queue) -> None:
    made, waited = [], []

    def make(folder: Path) -> None:
        time.sleep(0.5)
        (folder / "file").write_text("made")
        made.append(1)

    Store(root).obtain("key", make, lambda: waited.append(1))
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
    store.obtain("key", write("done"))
    assert not store.unfinished("key").exists()


def test_a_store_that_cannot_be_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(KdsweepError, match="store="):
        Store(tmp_path / "file")
