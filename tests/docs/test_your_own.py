"""docs/your-own.md, followed literally, but for fewer epochs and nothing downloaded."""

import re
import shlex
import subprocess
import sys

import pytest
from helpers import ROOT, Command, environment, write_images

PAGE = ROOT / "docs" / "your-own.md"
QUICK = ("training.epochs=1", "teacher.training.epochs=1", "teacher.model.pretrained=false")
QUICKER = ("teacher.training.fine_tuning.epochs=1", "teacher.model.upsample=1")


@pytest.mark.long
def test_the_page_is_true(kdsweep: Command, tmp_path):
    for name in ("daisy", "tulip"):
        write_images(tmp_path / "data" / "flowers" / name, 20)
    write_images(tmp_path / "data" / "more_flowers", 12)
    commands = 0
    for kind, text in re.findall(r"```(\w+)\n(.*?)```", PAGE.read_text(), flags=re.DOTALL):
        if kind in ("yaml", "python"):
            first, _, rest = text.partition("\n")
            file = tmp_path / first.removeprefix("# ")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(rest)
            continue
        program, *arguments = shlex.split(text)
        if program == "kdsweep":
            shown = kdsweep(
                *(each.replace("range(3)", "range(1)") for each in arguments), *QUICK, *QUICKER
            ).stdout
            assert "teacher" in shown and "student" in shown
        else:
            done = subprocess.run(
                [sys.executable, *arguments], cwd=tmp_path, env=environment(), capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
            assert "Sequential" in done.stdout or "Layers" in done.stdout
        commands += 1
    assert commands == 7
