"""A sweep that is killed at any moment, or whose store is damaged, comes to the same weights bit for bit."""

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from helpers import COMMAND, environment, runs, start
from PIL import Image

from kdsweep.store.store import Store
from kdsweep.store.usage import read_entries

MOMENTS = 20
SWEEP = (
    "-m",
    "temperature=1,8",
    "dataset.train_limit=400",
    "training.epochs=12",
    "student.model.hidden=[64]",
)
LAUNCHERS = {"plain": (), "parallel": ("hardware=cpu_parallel", "hardware.jobs=2")}


def weights(folder: Path) -> dict[str, bytes]:
    """Of the stages in the store."""
    entries = read_entries(Store(folder / "kdsweep-store")).values()
    stages = [entry for entry in entries if entry.kind == "stage"]
    return {entry.key: (entry.folder / "weights.safetensors").read_bytes() for entry in stages}


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    done = subprocess.run([COMMAND, *command], cwd=folder, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    return done


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_sweep_killed_at_any_moment_goes_on_bit_for_bit(tmp_path, launcher):
    """At moments spread over the first run, its imports and the making of mlflow.db among them."""
    command = (*SWEEP, *LAUNCHERS[launcher])
    begun = time.monotonic()
    run(tmp_path / "whole", *command)
    took = time.monotonic() - begun
    expected = weights(tmp_path / "whole")
    assert len(expected) == 4  # the teacher, the student alone and two that are taught

    draw = random.Random(11)
    for number in range(MOMENTS):
        folder = tmp_path / str(number)
        folder.mkdir()
        moment = took * (number + draw.random()) / MOMENTS
        process = start(folder, *command)
        time.sleep(moment)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert "damaged" not in run(folder, *command).stderr
        assert weights(folder) == expected, f"killed after {moment:.2f} s"
        assert {run.info.status for run in runs(folder)} <= {"FINISHED", "KILLED"}


def flip(file: Path, draw: random.Random) -> None:
    content = bytearray(file.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    file.write_bytes(content)


def cut(file: Path, draw: random.Random) -> None:
    file.write_bytes(file.read_bytes()[: draw.randrange(file.stat().st_size)])


def lose(file: Path, draw: random.Random) -> None:
    file.unlink()


def swap(file: Path, draw: random.Random) -> None:
    """A folder in the place of the file."""
    file.unlink()
    file.mkdir()


def flatten(file: Path, draw: random.Random) -> None:
    """A file in the place of the whole entry."""
    entry = file.parent.rename(file.parent.with_name("away"))
    file.parent.write_bytes((entry / file.name).read_bytes())
    shutil.rmtree(entry)


def lead_astray(file: Path, draw: random.Random) -> None:
    """A link in the place of the whole entry."""
    shutil.rmtree(file.parent)
    file.parent.symlink_to("nowhere" if draw.random() < 0.5 else "locks")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("damage", [flip, cut, lose, swap, flatten, lead_astray])
def test_a_damaged_entry_of_any_kind_is_set_aside_and_made_anew(tmp_path, damage):
    """Of every kind of entry, any file, all at once."""
    images = tmp_path / "images"
    draw = random.Random(7)
    for name in ("train", "test"):
        for label in ("cat", "dog"):
            folder = images / name / label
            folder.mkdir(parents=True)
            for number in range(12):
                pixels = bytes(draw.randrange(256) for _ in range(16 * 16 * 3))
                Image.frombytes("RGB", (16, 16), pixels).save(folder / f"{number}.png")
    command = ("dataset=image_folder", f"dataset.root={images}", "dataset.image_size=16", "training.epochs=2")
    run(tmp_path, *command)
    expected, store = weights(tmp_path), Store(tmp_path / "kdsweep-store")
    kinds = {entry.kind: entry.folder for entry in read_entries(store).values()}
    assert kinds.keys() >= {"stage", "logits", "evaluation", "cost", "pixels", "digests"}
    for folder in kinds.values():
        damage(draw.choice(sorted(folder.iterdir())), draw)
    warned = run(tmp_path, *command).stderr
    unread = [key for key in read_entries(store) if store.damage(key)]  # whose evaluation is there
    assert warned.count("made again") == len(kinds) - len(unread) >= 5, warned
    assert weights(tmp_path) == expected
