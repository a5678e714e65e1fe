"""Entries are whole or absent, made once, and damage is noticed."""

import errno
import json
import logging
import multiprocessing
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from filelock import FileLock

from kdsweep.errors import DiskFull, KdsweepError
from kdsweep.store import store as store_module
from kdsweep.store.origin import ENTRY, Origin
from kdsweep.store.place import open_store
from kdsweep.store.seal import SUMS, seal
from kdsweep.store.store import ANSWERS, Busy, Store, size_of

MADE = Origin("made", {"a": 1})


def write(text: str):
    return lambda folder: (folder / "file").write_text(text)


def forget() -> None:
    """As in a new process, which reads the checksums again."""
    store_module._verified.clear()


def test_an_entry_is_made_once(tmp_path):
    store = Store(tmp_path / "store").made()
    entry, there = store.obtain("key", write("first"), origin=MADE)
    again, there_again = store.obtain("key", write("second"), origin=MADE)
    assert (there, there_again) == (False, True)
    assert entry == again
    assert (entry / "file").read_text() == "first"
    assert store.find("other") is None


def test_a_maker_that_fails_leaves_nothing(tmp_path):
    store = Store(tmp_path).made()

    def fail(folder: Path) -> None:
        (folder / "file").write_text("half")
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError):
        store.obtain("key", fail, origin=MADE)
    assert store.find("key") is None
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert store.obtain("key", write("whole"), origin=MADE)[1] is False


def _lines(sums: Path, change: Callable[[list[str]], list[str]]) -> None:
    sums.write_text("".join(change(sums.read_text().splitlines(keepends=True))))


def _outside(entry: Path) -> None:
    """The list names a file elsewhere, whose checksum is right."""
    (entry.parent / "elsewhere").write_text("right")
    _lines(entry / SUMS, lambda lines: [line.replace("  file", "  ../elsewhere") for line in lines])


def _replace(entry: Path, by: Callable[[Path], object]) -> None:
    entry.rename(entry.parent / "moved")
    by(entry)


@pytest.mark.parametrize(
    "damage",
    ["changed", "cut", "removed", "no sums", "empty sums", "nonsense sums", "no UTF-8", "a line less",
     "a line less and its file", "no first line", "a file elsewhere", "a flipped digit", "a file", "a link",
     "a broken link", "a folder for a file"],
)  # fmt: skip
def test_damage_is_set_aside_and_made_anew(tmp_path, caplog, damage):
    store = Store(tmp_path).made()
    entry, _ = store.obtain("key", write("right"), origin=MADE)
    file, sums = entry / "file", entry / SUMS
    {
        "no UTF-8": lambda: sums.write_bytes(b"\xff" + sums.read_bytes()),
        "a line less": lambda: _lines(sums, lambda lines: lines[:-1]),
        "a line less and its file": lambda: (_lines(sums, lambda lines: lines[:-1]), file.unlink()),
        "no first line": lambda: _lines(sums, lambda lines: lines[1:]),
        "a file elsewhere": lambda: _outside(entry),
        "a flipped digit": lambda: _lines(sums, lambda lines: [lines[0].replace(": ", ":0"), *lines[1:]]),
        "a file": lambda: _replace(entry, Path.touch),
        "a link": lambda: _replace(entry, lambda path: path.symlink_to("moved")),
        "a broken link": lambda: _replace(entry, lambda path: path.symlink_to("nowhere")),
        "a folder for a file": lambda: (file.unlink(), file.mkdir()),
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
    store = Store(tmp_path).made()
    (tmp_path / ".key-left").mkdir(parents=True)
    (tmp_path / ".other-left").mkdir()
    store.obtain("key", write("made"), origin=MADE)
    assert not (tmp_path / ".key-left").exists()
    assert (tmp_path / ".other-left").exists()


def test_sums_are_those_of_sha256sum(tmp_path):
    entry, _ = Store(tmp_path).made().obtain("key", write("abc"), origin=MADE)
    sums = (entry / SUMS).read_text().splitlines()
    assert sums[2] == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  file"
    assert [line.split()[1] for line in sums[1:]] == ["entry.json", "file"]
    checked = subprocess.run(["sha256sum", "--strict", "-c", SUMS], cwd=entry, capture_output=True, text=True)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "entry.json: OK\nfile: OK\n", "")


def test_an_entry_says_what_it_is(tmp_path):
    origin = Origin("logits", {"logits": "a", "split": "val"}, ["a"], "mlp", "student")
    entry, _ = Store(tmp_path).made().obtain("key", write("abc"), origin=origin)
    told = json.loads((entry / ENTRY).read_text())
    assert (told["key"], told["kind"], told["parents"], told["network"]) == ("key", "logits", ["a"], "mlp")
    assert told["made_from"] == {"logits": "a", "split": "val"}
    assert told["by"]["host"] and told["seconds"] >= 0
    assert datetime.now(UTC) - datetime.fromisoformat(told["made"]) < timedelta(minutes=5)


def test_who_does_not_want_to_wait_is_told(tmp_path):
    store = Store(tmp_path).made()

    def make(folder: Path) -> None:
        with pytest.raises(Busy):
            Store(tmp_path).made().obtain("key", write("other"), origin=MADE, wait=False)
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
    store = Store(tmp_path).made()

    def fill(folder: Path) -> None:
        (folder / "file").write_text("half")
        raise error

    with pytest.raises(
        KdsweepError, match=r"store=.*: (No space|Disk quota).*[GM]B are free.* remove --unused"
    ):
        store.obtain("key", fill, origin=MADE)
    assert store.find("key") is None and not list(tmp_path.glob(".key*"))
    assert store.obtain("key", write("whole"), origin=MADE)[1] is False


def test_answers_are_what_a_full_disk_is_freed_of_first(tmp_path):
    store = Store(tmp_path).made()
    save = lambda folder: (folder / ANSWERS).write_bytes(bytes(3 * 10**6))  # noqa: E731
    store.obtain("said", save, origin=Origin("answers", {}))

    def fill(folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DiskFull, match=r"perhaps by `kdsweep-store remove --answers`, which frees 0.003 GB"):
        store.obtain("key", fill, origin=MADE)


def test_a_store_has_a_budget(tmp_path):
    Store(tmp_path).made().obtain(
        "key", lambda folder: (folder / "file").write_bytes(bytes(10**6)), origin=MADE
    )
    assert 10**6 < size_of(tmp_path) < 1.01 * 10**6
    Store(tmp_path).made().check_budget()
    Store(tmp_path, budget=0.0011).made().check_budget()
    with pytest.raises(KdsweepError, match=r"store_budget=0.0009: .* has 0.001 GB; .*remove --unused"):
        Store(tmp_path, budget=0.0009).made().check_budget()


def test_a_budget_is_kept_by_freeing_answers(tmp_path):
    """The oldest first, and none that a process is recording."""
    store = Store(tmp_path, budget=0.0045).made()
    for key in "abcde":
        save = lambda folder: (folder / ANSWERS).write_bytes(bytes(10**6))  # noqa: E731
        store.obtain(key, save, origin=Origin("answers", {}))
        os.utime(store.root / key / ANSWERS, (ord(key), ord(key)))
    assert not store.has_room(10)
    with FileLock(tmp_path / "locks" / "a.lock"):
        store.check_budget()
    assert [folder.name for folder in store.answers()] == ["a", "c", "d", "e"]
    assert store.has_room(10**5) and not store.has_room(10**6)
    store.obtain("key", lambda folder: (folder / "x").write_bytes(bytes(5 * 10**6)), origin=MADE)
    with pytest.raises(KdsweepError, match=r"store_budget=0.0045: .* has 0.005 GB; .*remove --unused"):
        store.check_budget()
    assert store.answers() == [] and store.find("key")


def test_an_entry_that_need_not_outlive_a_loss_of_power_is_not_flushed(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(os, "fsync", flushed.append)
    store = Store(tmp_path).made()
    for key, flush in (("lasting", True), ("made again", False)):
        with store.entry(key, origin=MADE, flush=flush) as (folder, _):
            (folder / "file").write_text("text")
        assert len(flushed) == 4, "file, description, checksums and folder of the first"
        assert store.damage(key) is None


def test_a_folder_that_is_to_become_an_entry_is_filled_by_its_user(tmp_path):
    store = Store(tmp_path).made()
    with pytest.raises(KeyboardInterrupt), store.entry("key", origin=MADE):
        raise KeyboardInterrupt
    assert not list(tmp_path.glob(".*")) and store.find("key") is None
    with store.entry("key", origin=MADE) as (folder, found):
        assert not found and not list(folder.iterdir())
        with pytest.raises(Busy), Store(tmp_path).entry("key", origin=MADE, wait=False):
            pytest.fail("it is locked")
        (folder / "file").write_text("text")
    with store.entry("key", origin=MADE, wait=False) as (folder, found):
        assert found and (folder / "file").read_text() == "text"
        FileLock(tmp_path / "locks" / "key.lock").acquire(timeout=0)  # who reads locks nothing


def _slow_maker(root: str, queue) -> None:
    made, waited = [], []

    def make(folder: Path) -> None:
        time.sleep(0.5)
        (folder / "file").write_text("made")
        made.append(1)

    Store(root).made().obtain("key", make, lambda: waited.append(1), origin=MADE)
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
    store = Store(tmp_path).made()
    store.unfinished("key").mkdir()
    (store.unfinished("key") / "checkpoint").write_text("…")
    store.obtain("key", write("done"), origin=MADE)
    assert not store.unfinished("key").exists()


def test_a_store_that_cannot_be_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(KdsweepError, match="store="):
        Store(tmp_path / "file").made()


NOBODY = 65534


@contextmanager
def another_user() -> Iterator[None]:
    """Whoever runs the tests may be root, whom no mode of a file stops."""
    if os.geteuid() != 0:
        yield
        return
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that others come to, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


def test_files_have_the_mode_of_the_umask(tmp_path):
    """Whatever made them: safetensors makes files for their owner alone."""

    def make(folder: Path) -> None:
        (folder / "private").touch(mode=0o600)
        (folder / "plain").touch()

    entry, _ = Store(tmp_path).made().obtain("key", make, origin=MADE)
    assert {file.stat().st_mode for file in entry.iterdir()} == {(entry / "plain").stat().st_mode}


def test_what_cannot_be_read_is_not_damaged(shared, caplog):
    store = Store(shared / "store").made()
    entry, _ = store.obtain("key", write("right"), origin=MADE)
    (entry / "file").chmod(0)
    for folder in (store.root, *store.root.iterdir()):
        folder.chmod(0o777)
    forget()
    with (
        another_user(),
        pytest.raises(KdsweepError, match=r"you may not read and write .*key/file of "),
    ):
        store.obtain("key", write("another's"), origin=MADE)
    assert not caplog.text and not list((store.root / "damaged").iterdir())
    (entry / "file").chmod(0o644)
    assert store.obtain("key", write("another's"), origin=MADE) == (entry, True)


def test_a_store_that_may_only_be_read_is_a_source(shared, monkeypatch, caplog):
    theirs = Store(shared / "theirs").made()
    entry, _ = theirs.obtain("key", write("theirs"), origin=MADE)
    spoilt, _ = theirs.obtain("spoilt", write("theirs"), origin=MADE)
    (spoilt / "file").write_text("thei")
    before = sorted(theirs.root.rglob("*"))
    for folder in (theirs.root, *(path for path in before if path.is_dir())):
        folder.chmod(0o555)
    forget()
    monkeypatch.chdir(shared)
    with another_user():
        for _ in range(2):
            mine = open_store("theirs")
        assert mine.obtain("key", write("mine"), origin=MADE) == (entry, True)
        made, there = mine.obtain("new", write("mine"), origin=MADE)
        assert not there and made == shared / "kdsweep-store" / "new"
        again, there = mine.obtain("spoilt", write("mine"), origin=MADE)
        assert not there and (again / "file").read_text() == "mine"
        assert open_store("theirs").find("new") == made
    assert sorted(theirs.root.rglob("*")) == before
    assert caplog.text.count("store=theirs: is read-only for you") == 1


def test_a_lock_that_is_none_is_told(tmp_path):
    store = Store(tmp_path).made()
    (tmp_path / "locks" / "key.lock").mkdir()
    with pytest.raises(KdsweepError, match=r"locks/key.lock cannot be locked: Is a directory; remove it"):
        store.obtain("key", write("mine"), origin=MADE)


def test_where_nothing_may_be_written_is_told(shared, monkeypatch):
    theirs = Store(shared / "kdsweep-store").made()
    for folder in (theirs.root, theirs.root / "locks"):
        folder.chmod(0o555)
    monkeypatch.chdir(shared)
    with (
        another_user(),
        pytest.raises(KdsweepError, match="store=kdsweep-store: is read-only for you"),
    ):
        open_store("kdsweep-store")


def test_a_remote_entry_without_its_list_is_made(tmp_path):
    class Remote:
        def fetch(self, key: str, folder: Path) -> bool:
            (folder / "file").write_text("theirs")
            if key == "whole":
                seal(folder)
            return True

        def keep(self, key: str, entry: Path) -> None: ...

    store = Store(tmp_path).made()
    assert store.obtain("whole", write("mine"), remote=Remote(), origin=MADE)[1] is True
    assert store.obtain("cut", write("mine"), remote=Remote(), origin=MADE)[1] is False
