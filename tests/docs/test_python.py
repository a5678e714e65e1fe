"""docs/python.md and docs/from-a-script.md, followed literally, but for shorter trainings."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT, Command, environment, write_images

QUICK = ["training.epochs=1", "dataset.train_limit=120", "dataset.test_limit=60"]
# each call of a page ends soon
PREFACE = f"""
from kdsweep import api
launch = api.launch
api.launch = lambda arguments: launch([*arguments, *{QUICK}])
"""


@pytest.mark.long
@pytest.mark.parametrize("page", ["python", "from-a-script"])
def test_the_page_is_true(kdsweep: Command, tmp_path: Path, page: str):
    for name in ("daisy", "tulip"):
        write_images(tmp_path / "data" / "flowers" / name, 20)
    write_images(tmp_path / "photos", 3)
    python, ran = PREFACE, 0
    for kind, text in re.findall(
        r"^```(\w+)\n(.*?)^```", (ROOT / "docs" / f"{page}.md").read_text(), re.S | re.M
    ):
        first, _, rest = text.partition("\n")
        if file := re.fullmatch(r"# (\S+\.(?:py|yaml))", first):
            (tmp_path / file[1]).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file[1]).write_text(rest)
        elif kind == "python":
            python += text
        elif kind == "sh":
            program, *arguments = shlex.split(text)
            if program == "kdsweep":
                arguments = [each for each in arguments if not each.startswith("training.epochs")]
                shown = kdsweep(*(each.replace("range(3)", "range(1)") for each in arguments), *QUICK).stdout
                assert "teacher" in shown and "student" in shown
            else:
                _run(tmp_path, program, *arguments)
            ran += 1
    shown = _run(tmp_path, sys.executable, "-c", python)
    if page == "python":
        assert "temprature: no such key; did you mean temperature?\n" in shown
        assert "{1: 'student: the loss is no longer finite in epoch 1;" in shown
        assert ran == 0
    else:
        assert (tmp_path / "shipped" / "model.safetensors").is_file()
        images = "import torch, my_imagenet; my_imagenet.teacher(2, 3, (32, 32))(torch.rand(1, 3, 32, 32))"
        _run(tmp_path, sys.executable, "-c", images)
        assert ran == 5


def _run(folder: Path, *command: str) -> str:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(command, cwd=folder, env=environment(PATH=path), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
