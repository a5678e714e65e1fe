"""The docs are true: pages' commands are run as written, but for shorter trainings, and all of them compose.

A block whose fence says what it needs is not run here; one that `fails` must say what follows it.
"""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from helpers import ROOT, Command, composed, environment, one_of, write_images
from PIL import Image

from kdsweep.config.parse import parse

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
TARGETS = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
QUICK = ("training.epochs=1", "dataset.train_limit=120", "dataset.test_limit=60", "baseline=false")
SHOWS = ("--help", "--cfg")  # and starts nothing
OF_HYDRA = {"--cfg": 1, "--package": 1, "-m": 0, "--help": 0}


def blocks(page: Path) -> list[tuple[str, str]]:
    """The fenced blocks: what the fence says, and the text."""
    return re.findall(r"^```([^\n]*)\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def commands(page: Path) -> Iterator[list[str]]:
    """The words of every command shown; a block of commands has no kind, or says what it needs."""
    for kind, text in blocks(page):
        if kind == "sh" or not kind or kind.startswith(" needs"):
            for line in text.splitlines():
                if re.match(r"(kdsweep|make)\b", line):
                    yield shlex.split(line, comments=True)


RUN = ["README.md"]
RUN += [
    f"docs/{page}.md"
    for page in ("index", "configuration", "commands", "teachers", "search", "scaling", "report", "export")
]


@pytest.mark.parametrize("page", RUN)
@pytest.mark.long
def test_the_page_is_true(kdsweep: Command, tmp_path, page):
    first, *_ = write_images(tmp_path / "photos", 3)
    Image.open(tmp_path / "photos" / first).save(tmp_path / "photos" / "a.jpg")
    ran, python = 0, ""
    shown = blocks(ROOT / page)
    for (kind, text), (_, following) in zip(shown, [*shown[1:], ("", "")], strict=True):
        if kind == "yaml":
            first, _, rest = text.partition("\n")
            file = tmp_path / first.removeprefix("# ")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(rest)
        elif kind.strip() == "fails":
            assert kdsweep(*shlex.split(text)[1:], status=1).stderr == following
            ran += 1
        elif kind == "python":  # each goes on from those before
            python += text
            shell(tmp_path, sys.executable, "-c", python)
        elif kind == "sh":
            shell(tmp_path, "bash", "-euc", text)
        elif not kind:
            for line in text.splitlines():
                if line.startswith("kdsweep"):
                    run(kdsweep, line, tmp_path)
                    ran += 1
    assert ran >= 2


def shell(folder: Path, *command: str) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        command, cwd=folder, env=environment(PATH=path), input="n\n", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def run(kdsweep: Command, line: str, folder: Path) -> None:
    program, *arguments = shlex.split(line, comments=True)
    if "multirun/DAY/TIME" in arguments:
        searched = [file.parent.parent for file in folder.glob("multirun/*/*/experiment/best.yaml")]
        last = max(searched or [file.parent for file in folder.glob("multirun/*/*/sweep.json")])
        arguments = [str(last) if each == "multirun/DAY/TIME" else each for each in arguments]
    if program != "kdsweep":
        shell(folder, program, *arguments)
        return
    if set(SHOWS) & set(arguments):
        assert kdsweep(*arguments).stdout
        return
    arguments = [re.sub(r"range\(\d\)", "range(1)", each) for each in arguments]
    searches = any(each.startswith("search=") for each in arguments)
    trials = ("search.n_trials=2",) if searches else ()
    shown = kdsweep(*arguments, *QUICK, *trials).stdout
    assert "student" in shown


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_is_one_that_there_is(page):
    """Its options exist, and what it says composes to a config that is accepted."""
    for program, *arguments in commands(page):
        if program == "make":
            assert arguments[0] in TARGETS
        elif program != "kdsweep":
            assert program in SCRIPTS
            import_module(SCRIPTS[program].partition(":")[0])._parser().parse_args(arguments)
        elif "--config-dir" not in arguments:
            overrides = list(without_flags(arguments))
            parse(composed(*(one_of(re.sub(r"range\(\d+\)", "0", each)) for each in overrides)))


def without_flags(arguments: list[str]) -> Iterator[str]:
    rest = iter(arguments)
    for each in rest:
        if each in OF_HYDRA:
            for _ in range(OF_HYDRA[each]):
                next(rest)
        else:
            yield each


def test_the_code_that_contributing_shows_is_the_code():
    shown = {text.partition("\n")[0]: text.partition("\n")[2] for _, text in blocks(DOCS / "contributing.md")}
    files = {first.removeprefix("# "): text for first, text in shown.items() if first.startswith("# ")}
    assert len(files) == 5
    for file, text in files.items():
        assert text == (ROOT / file).read_text(), f"docs/contributing.md shows another {file}"


def test_every_page_has_its_place():
    """In the site, and in the README."""
    nav, readme = (ROOT / "mkdocs.yml").read_text(), (ROOT / "README.md").read_text()
    for page in DOCS.glob("*.md"):
        assert f": {page.name}\n" in nav
        assert f"(docs/{page.name})" in readme


def test_the_readme_leads_to_what_is_there():
    for link in re.findall(r"\]\(([^)#]+)", (ROOT / "README.md").read_text()):
        assert link.startswith("http") or (ROOT / link).is_file(), link
