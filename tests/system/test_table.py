"""Tables on terminals of any width: columns are left out and named, heads and cells are whole."""

import io
import re

import pytest
from helpers import make_stage
from hypothesis import given
from hypothesis import strategies as st
from invented import sweep
from rich.console import Console

from kdsweep.config import Hardware
from kdsweep.report import live as display
from kdsweep.report.tables import show
from kdsweep.stages.show_plan import Planned, show_plan
from kdsweep.store.origin import Origin
from kdsweep.store.show import show_entries
from kdsweep.store.store import Store
from kdsweep.store.usage import Use
from kdsweep.system.table import Column, Fitting

WIDTHS = (60, 80, 100, 120)
KEYS = {"temperature": (1, 4), "training.learning_rate": (0.001,), "seed": (0, 1)}


@pytest.fixture(params=WIDTHS)
def width(request, monkeypatch) -> int:
    monkeypatch.setenv("COLUMNS", str(request.param))
    return request.param


def blocks(capsys) -> list[str]:
    """What was printed, in parts with an empty line in between."""
    return capsys.readouterr().out.strip("\n").split("\n\n")


def heads(table: str, width: int, *first: str) -> tuple[list[str], list[str]]:
    """The heads above a table whose rows begin with one of `first`, and those named as left out."""
    lines = table.splitlines()
    *rows, last = lines
    named = re.fullmatch("more columns in (?:sweep.txt|a wider terminal): (.*)", last)
    rows = rows if named else lines
    assert "…" not in table and max(len(row.rstrip()) for row in rows) <= width
    top = next(i for i, row in enumerate(rows) if row.split()[0] in first)
    above = [re.split(r"\s{2,}", row.strip()) for row in rows[:top]]
    return [head for row in above for head in row], named[1].split("; ") if named else []


def test_the_tables_of_a_sweep(width, capsys):
    show(sweep({"temperature": (1, 4)}))
    jobs, costs, *_ = blocks(capsys)
    above, left = heads(jobs, width, "student")
    figures = ["val %", "test %", "vs baseline", "vs teacher", "time"]
    assert above + left == ["temperature", *figures] and left == (
        ["vs teacher", "time"] if width == 60 else []
    )
    above, left = heads(costs, width, "teacher")
    assert {*above, *left} >= {"parameters", "MFLOPs", "size, MB", "latency, ms", "test %"}
    assert left == {60: ["size, MB", "latency, ms"], 80: ["size, MB"]}.get(width, [])


def test_the_tables_of_a_sweep_over_long_keys(width, capsys):
    show(sweep(KEYS))
    jobs, costs, *_ = blocks(capsys)
    above, left = heads(jobs, width, "student")
    assert {"temperature", "seed", "test %"} <= set(above)
    assert "training.learning_rate" in above or {"training.", "learning_rate"} <= set(above)
    assert left == {60: ["val %", "vs baseline", "vs teacher", "time"], 80: ["vs teacher", "time"]}.get(
        width, []
    )
    heads(costs, width, "teacher")


def test_a_plan(width, tmp_path, capsys):
    teacher = make_stage()
    chain = {"teacher": teacher, "scratch": make_stage(seed=1)}
    for i in range(1, 4):
        chain[f"generation{i}"] = teacher = make_stage(parents=(teacher,))
    jobs = [
        Planned({"temperature": t, "training.learning_rate": 0.001},
                {**chain, "student": make_stage(parents=(teacher,), seed=t)})
        for t in (2, 3)
    ]  # fmt: skip
    hardware = Hardware(device="cpu", threads=1)
    show_plan(jobs, "2 jobs", Store(str(tmp_path)), hardware, 1)
    _, shared, each, *_ = blocks(capsys)
    assert heads(shared, width, "teacher")[0] == ["networks of several jobs", "epochs", "time", "jobs"]
    above, left = heads(each, width, "1")
    links = ["teacher", "generation 1", "generation 2", "generation 3", "baseline"]
    assert left == links[: {60: 4, 80: 3, 100: 1, 120: 0}[width]]
    assert {"job", "temperature", "student", "time"} <= set(above)
    show_plan(jobs[:1], "1 job", Store(str(tmp_path)), hardware, 1)
    assert heads(blocks(capsys)[1], width, "teacher") == (["network", "epochs", "time"], [])


def test_a_list_of_the_store(width, tmp_path, capsys):
    store = Store(str(tmp_path / "kdsweep-store"))
    for key, network in (("a", "tf_efficientnet_lite0"), ("b", "mine")):
        origin = Origin("stage", {}, [], network, "generation 1")
        store.obtain(key * 32, lambda folder: (folder / "x").write_text("x"), origin=origin)
    name = "T=4 α=0.5 training.epochs=12 chain_length=2 student=mine seed=1"
    show_entries(store, [Use(name, {"a" * 32})], everything=True)
    table = blocks(capsys)[0]
    above, left = heads(table, width, "aaaaaaaa")
    assert above + left == ["key", "kind", "role", "network", "size", "age", "used by"] or left
    assert left == {60: ["role", "size", "age"], 80: ["age"]}.get(width, [])
    assert all(word in table.split() for word in ("tf_efficientnet_lite0", "nobody", *name.split()))


@given(
    st.lists(st.tuples(st.text("ab. ", max_size=30), st.integers(0, 3)), min_size=1, max_size=8),
    st.integers(20, 130),
)
def test_a_column_is_there_as_a_whole_or_left_out(columns, width):
    table = Fitting([Column("first", right=False), *(Column(head, worth=worth) for head, worth in columns)])
    cells = {str(1000 + i) * (1 + i % 3): column for i, column in enumerate(columns)}
    table.add(["row", *cells])
    stream = io.StringIO()
    Console(file=stream, width=width, soft_wrap=True).print(table)
    shown = stream.getvalue()
    row = next(line.split() for line in shown.splitlines() if line.startswith("row"))
    assert set(row[1:]) <= cells.keys()
    kept, left = (
        [column for cell, column in cells.items() if (cell in row) == there] for there in (True, False)
    )
    assert not kept or not left or max(worth for _, worth in left) < min(worth for _, worth in kept)
    above = re.sub(r"\s", "", shown.partition("row")[0])
    for head, _ in kept:
        assert all(part in above for part in head.replace(".", " ").split())


def test_what_cannot_fit_is_broken_and_not_cut():
    table = Fitting([Column("training.learning_rate"), Column("student.model.hidden")])
    table.add(["0.001", "[784, 784, 784]"])
    stream = io.StringIO()
    Console(file=stream, width=20).print(table)
    assert "".join(sorted(stream.getvalue().split())) and "…" not in stream.getvalue()
    assert sorted(re.sub(r"\s", "", stream.getvalue())) == sorted(
        "training.learning_ratestudent.model.hidden0.001[784,784,784]"
    )


@pytest.mark.parametrize(("terminal", "lines"), [(True, 3), (False, 1)])
def test_a_terminal_has_sentences_broken_at_words(monkeypatch, capsys, terminal, lines):
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal, raising=False)
    sentence = "The best of 6 recipes by validation, T=4, reaches 97.21 % on the test split"
    display.console().print(sentence)
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == lines and " ".join(line.strip() for line in shown) == sentence
