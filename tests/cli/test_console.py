"""What the console scripts have in common: help, version, exit status, JSON; colour on terminals alone."""

import json
import logging
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from helpers import COMMAND, ROOT, TINY, environment

from kdsweep import __version__
from kdsweep.store.origin import Origin
from kdsweep.store.store import Store
from kdsweep.system.terminal import Warnings, say

BIN = Path(sys.executable).parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SCRIPTS = sorted(PROJECT["scripts"])
OTHERS = [name for name in SCRIPTS if name != "kdsweep"]
COLOUR = re.compile(r"\x1b\[[\d;]*\b[349][0-7]\b[\d;]*m|\x1b\[[\d;]*[34]8;")


def run(*command: str, folder: Path, status: int = 0, **changes: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(BIN / command[0]), *command[1:]],
        cwd=folder,
        env=environment(TERM="xterm-256color", **changes),
        capture_output=True,
        text=True,
    )
    assert done.returncode == status, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def on_a_terminal(*command: str, folder: Path, **changes: str) -> str:
    """What the command prints on a terminal."""
    leader, terminal = pty.openpty()
    process = subprocess.Popen(
        [str(BIN / command[0]), *command[1:]],
        cwd=folder,
        env=environment(TERM="xterm-256color", **changes),
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    shown = b""
    while True:
        try:
            read = os.read(leader, 4096)
        except OSError:  # the other end is closed
            break
        if not read:
            break
        shown += read
    os.close(leader)
    assert process.wait() == 0, shown
    return shown.decode()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "kdsweep-store")
    for key in ("a" * 32, "b" * 32):
        origin = Origin("pixels", {"files": "made"}, network="flowers")
        store.obtain(key, lambda folder: (folder / "x").write_text("x"), origin=origin)
    return store


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_command_tells_its_version(name, tmp_path):
    assert run(name, "--version", folder=tmp_path).stdout.startswith(f"{name} {__version__}")


@pytest.mark.parametrize("name", OTHERS)
def test_help_is_of_one_style(name, tmp_path):
    shown = run(name, "--help", folder=tmp_path).stdout
    assert shown.startswith(f"usage: {name} ")
    assert re.search(rf"^examples:\n  {name} ", shown, re.M)
    assert re.search(r"^exit status: 0 done, 1 .*, 2 interrupted$", shown, re.M)


def test_the_help_of_kdsweep_names_the_other_commands(tmp_path):
    shown = run("kdsweep", "--help", folder=tmp_path).stdout
    assert "Exit status: 0 done, 1 a mistake or a failed job, 2 interrupted" in shown
    for name in OTHERS:
        assert re.search(rf"^  {name} +\w", shown, re.M)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_mistaken_flag_is_status_1_and_no_traceback(name, tmp_path):
    done = run(name, "--nonsense", folder=tmp_path, status=1)
    assert "--nonsense" in done.stderr or "required" in done.stderr
    assert "Traceback" not in done.stderr and not done.stdout


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_reader_that_leaves_is_no_error(name, tmp_path):
    process = subprocess.Popen(
        [str(BIN / name), "--help"],
        cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    process.stdout.close()
    assert not process.stderr.read()


def test_ctrl_c_at_a_question_is_status_2(store, tmp_path):
    process = subprocess.Popen(
        [f"{COMMAND}-store", "remove", "aa", "--tracking-uri=sqlite:///none.db"],
        cwd=tmp_path, env=environment(), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    shown = ""
    while "[y/N]" not in shown:
        shown += process.stdout.read(1)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 2 and told.endswith("kdsweep-store: interrupted\n")
    assert "Traceback" not in told and store.root.joinpath("a" * 32).is_dir()


@pytest.mark.long
def test_a_reader_that_leaves_ends_nothing(tmp_path):
    command = shlex.join([COMMAND, "-m", "temperature=1,4", *TINY])
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{command} | head -n 1"],
        cwd=tmp_path, env=environment(), capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "") and len(done.stdout.splitlines()) == 1
    assert len(list(tmp_path.glob("multirun/*/*/report.html"))) == 1


def test_json_is_json_and_nothing_else(store, tmp_path):
    def told(*arguments: str, status: int = 0) -> dict:
        return json.loads(run("kdsweep-store", *arguments, "--json", folder=tmp_path, status=status).stdout)

    assert {entry["key"] for entry in told("list")["entries"]} == {"a" * 32, "b" * 32}
    entry = told("show", "aa")
    assert entry["made_from"] == {"files": "made"} and entry["files"]["x"] == 1 and entry["used_by"] is None
    assert told("verify") == {"entries": 2, "damaged": {}}
    store.root.joinpath("b" * 32, "x").write_text("y")
    assert told("verify", status=1) == {"entries": 2, "damaged": {"b" * 32: "checksum of x"}}


def test_colour_is_for_terminals_without_no_color(store, tmp_path):
    listing = ("kdsweep-store", "list")
    assert "\x1b" not in run(*listing, folder=tmp_path).stdout
    assert "\x1b[1m" in on_a_terminal(*listing, folder=tmp_path), "a bold head"
    assert not COLOUR.search(on_a_terminal(*listing, folder=tmp_path, NO_COLOR="1"))


@pytest.mark.parametrize("terminal", [True, False])
def test_a_mistake_on_a_terminal_is_broken_at_words(monkeypatch, capsys, terminal):
    monkeypatch.setenv("COLUMNS", "24")
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal, raising=False)
    text = "kdsweep: no such folder\n/a/path/that/is/longer/than/the/terminal does not exist"
    say(text, sys.stderr)
    told = capsys.readouterr().err.splitlines()
    broken = ["kdsweep: no such folder", "/a/path/that/is/longer/than/the/terminal", "does not exist"]
    assert told == (broken if terminal else text.splitlines())
    record = logging.LogRecord("", logging.WARNING, "", 0, text, (), None)
    warned = Warnings("%(message)s").format(record).splitlines()
    assert warned == told


@pytest.mark.long
def test_progress_is_for_terminals(tmp_path):
    job = ("kdsweep", "method=scratch", *TINY)
    done = run(*job, folder=tmp_path)
    assert "\x1b" not in done.stdout + done.stderr
    shown = on_a_terminal(*job, "seed=1", folder=tmp_path)
    assert COLOUR.search(shown) and "\x1b[?25l" in shown, "a bar, which hides the cursor"
    assert not COLOUR.search(on_a_terminal(*job, "seed=2", folder=tmp_path, NO_COLOR="1"))
