"""The commands of docs/search.md, docs/scaling.md and docs/report.md, as written, but for shorter trainings.

A block whose fence says what it needs is not run here.
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Command, environment

DOCS = Path(__file__).parent.parent / "docs"
QUICK = ("training.epochs=1", "dataset.train_limit=120", "dataset.test_limit=60", "baseline=false")


@pytest.mark.parametrize("page", ["search.md", "scaling.md", "report.md"])
@pytest.mark.long
def test_the_page_is_true(kdsweep: Command, tmp_path, page):
    commands = 0
    for kind, text in re.findall(
        r"^```([^\n]*)\n(.*?)^```", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE
    ):
        if kind == "yaml":
            first, _, rest = text.partition("\n")
            file = tmp_path / first.removeprefix("# ")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(rest)
        elif not kind:
            for line in text.splitlines():
                if line.startswith("kdsweep"):
                    run(kdsweep, line, tmp_path)
                    commands += 1
    assert commands >= 4


def run(kdsweep: Command, line: str, folder: Path) -> None:
    program, *arguments = shlex.split(line)
    if "multirun/DAY/TIME" in arguments:
        searched = [file.parent.parent for file in folder.glob("multirun/*/*/experiment/best.yaml")]
        last = max(searched or [file.parent for file in folder.glob("multirun/*/*/sweep.json")])
        arguments = [str(last) if each == "multirun/DAY/TIME" else each for each in arguments]
    if program != "kdsweep":
        command = [str(Path(sys.executable).parent / program), *arguments]
        done = subprocess.run(
            command, cwd=folder, env=environment(), input="n\n", capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return
    searches = any(each.startswith("search=") for each in arguments)
    trials = ("search.n_trials=2",) if searches else ()
    shown = kdsweep(*arguments, *QUICK, *trials).stdout
    assert "student" in shown
