"""Whatever the terminal's encoding, what is told is told, and no job depends on it."""

import io
import re
import sys

import pytest
from helpers import ROOT, TINY, Command, sweep_folder
from zoo_examples import METHODS, method

from kdsweep.system.terminal import SIGNS, any_signs

C_LOCALE = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_every_sign_can_be_printed(monkeypatch, encoding):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    any_signs()
    print("T=4 α=0.5: 97 ± 1 %, 2×, x² → …", "".join(SIGNS), "ü😀中\u0301", "name\udcff")
    stream.flush()
    told = stream.buffer.getvalue()
    assert told.strip().endswith(b"name\xff"), "the bytes of a file's name that is no text"
    if encoding == "ascii":
        assert told.startswith(b"T=4 alpha=0.5: 97 +- 1 %, 2x, x^2 -> ...")


def test_the_signs_of_the_package_have_others_for_them():
    package = ROOT / "kdsweep"
    text = "".join(file.read_text("utf-8") for file in package.rglob("*.py"))
    shown = set(re.findall(r"[^\x00-\x7f]", re.sub(r'"""[\s\S]*?"""|#.*', "", text)))
    shown |= {sign for name in METHODS for option in method(name).options.values() for sign in option.sign}
    shown = {sign for sign in shown if not sign.isascii()}
    assert {sign for sign in shown if sign not in SIGNS and not sign.isalpha()} <= set("⌈⌉")
    letters = {sign for sign in shown if "\u0370" <= sign <= "\u03ff"}
    assert letters <= SIGNS.keys(), "a Greek letter by its name"


@pytest.mark.long
def test_a_sweep_where_nothing_is_utf8(kdsweep: Command, tmp_path):
    done = kdsweep("-m", "alpha=0.1,1", "baseline=false", *TINY, PYTHONIOENCODING="ascii", **C_LOCALE)
    assert "[1/2] alpha=0.1 " in done.stdout and done.stdout.isascii() and done.stderr == ""
    folder = sweep_folder(tmp_path)
    assert "α" in (folder / "report.html").read_text("utf-8")
