"""The commands of docs/search.md, scaling.md and export.md, as written, but for shorter trainings.

A block whose fence says what it needs is not run here.
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Command, environment
from PIL import Image

DOCS = Path(__file__).parent.parent / "docs"
QUICK = ("training.epochs=1", "dataset.train_limit=120", "dataset.test_limit=60", "baseline=false")


@pytest.mark.parametrize("page", ["search.md", "scaling.md", "export.md"])
@pytest.mark.long
def test_the_page_is_true(kdsweep: Command, tmp_path, page):
    commands = 0
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (40, 30), (200, 100, 50)).save(tmp_path / "photos" / "a.jpg")
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
    if program in ("kdsweep-store", "kdsweep-export", "kdsweep-predict"):
        command = [str(Path(sys.executable).parent / program), *arguments]
        done = subprocess.run(
            command, cwd=folder, env=environment(), input="n\n", capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return
    if "multirun/DAY/TIME" in arguments:
        best = max(folder.glob("multirun/*/*/experiment/best.yaml")).parent.parent
        arguments = [str(best) if each == "multirun/DAY/TIME" else each for each in arguments]
    searches = any(each.startswith("search=") for each in arguments)
    trials = ("search.n_trials=2",) if searches else ()
    shown = kdsweep(*arguments, *QUICK, *trials).stdout
    assert "student" in shown
