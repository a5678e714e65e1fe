"""Teachers of several kinds from the command line, to the report."""

import csv
import json
import re
import subprocess

import numpy as np
import pytest
from helpers import COMMAND, TINY, Command, environment, runs, sweep_folder

from kdsweep.data.arrays import read_arrays

SPLITS = ("train", "test")
SECOND = ("+teacher@teachers.second=resnet", "teachers.second.model.depth=8")


def test_several_teachers_have_rows_figures_and_a_report(kdsweep: Command, tmp_path):
    ways = "chain.average=terms,probabilities"
    shown = kdsweep("-m", ways, *SECOND, *TINY, "teacher.training.epochs=1").stdout
    assert "taught by mnist_cnn + resnet8x1" in shown
    folder = sweep_folder(tmp_path)
    results = [json.loads(file.read_text()) for file in sorted(folder.glob("*/result.json"))]
    first, second = (result["networks"] for result in results)
    assert list(first) == ["teacher", "teachers.second", "scratch", "student", "ensemble"]
    assert first["ensemble"]["members"] == ["teacher", "teachers.second"]
    assert first["student"]["key"] != second["student"]["key"]
    for role in ("teacher", "teachers.second", "scratch"):
        assert first[role]["key"] == second[role]["key"]
    for line in ("teacher second", "ensemble", "teacher", "baseline"):
        assert any(row.strip().startswith(line) for row in shown.splitlines()), shown
    _, child, _ = runs(tmp_path)
    assert child.data.metrics["teachers.second/test/accuracy"] == first["teachers.second"]["test"]["accuracy"]
    assert "teacher second" in (folder / "report.html").read_text()


def test_a_further_teacher_is_changed_like_the_first(kdsweep: Command):
    small = (*TINY, "baseline=false", "plan=true")
    shown = kdsweep(*SECOND, "teachers.second.training.epochs=7", "teachers.second.weight=3", *small).stdout
    assert re.search(r"teacher second +resnet8x1 +7 ", shown), shown
    wrong = kdsweep(*SECOND, "teachers.second.wieght=3", *small, status=1).stderr
    assert "teachers.second.wieght: no such key; did you mean teachers.second.weight?" in wrong


def test_a_teacher_that_said_nothing_of_the_test_images_has_no_row(kdsweep: Command, tmp_path):
    train = read_arrays("digits", "data").train
    sure = np.eye(10)[train.labels] * 0.9 + 0.01
    with (tmp_path / "teacher.csv").open("w") as file:
        table = csv.writer(file)
        table.writerow(["split", "index", *range(10)])
        table.writerows(["train", row, *said] for row, said in enumerate(sure))
    teacher = ("teacher=outputs", "teacher.weights=teacher.csv", "teacher.gives=probabilities")
    done = kdsweep("-m", "seed=0,1", *teacher, *TINY)
    assert "teacher" not in [line.split()[0] for line in done.stdout.splitlines() if line.strip()]
    assert not done.stderr
    folder = sweep_folder(tmp_path)
    result = json.loads((folder / "0" / "result.json").read_text())
    assert list(result["networks"]) == ["scratch", "student"] and result["chain"] == ["student"]
    assert result["networks"]["student"]["test"]["agreement"] is None
    assert (folder / "report.html").exists()


@pytest.mark.long
def test_a_teacher_that_is_a_file_is_not_exported(kdsweep: Command, tmp_path):
    images = read_arrays("digits", "data")
    said = {
        name: np.eye(10, dtype=np.float32)[part.labels]
        for name, part in vars(images).items()
        if name in SPLITS
    }
    np.savez(tmp_path / "teacher.npz", **said)
    kdsweep("teacher=outputs", "teacher.weights=teacher.npz", "hydra.run.dir=out", *TINY, "baseline=false")
    command = [f"{COMMAND}-export", "out", "--role", "teacher", "--to", "onnx", "--out", "shipped"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (
        1,
        "kdsweep-export: --role teacher: outputs is a file of its own already\n",
    )
