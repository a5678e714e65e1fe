"""Jobs whose networks train in one pass, by the installed command: jobs like any other."""

import json
import time
from pathlib import Path

import pytest
from helpers import TINY, Command, client, epochs_done, left_of, runs, start, sweep_folder

SWEEP = ("-m", "temperature=1,4,16", "seed=0,1", "teacher.training.epochs=1", *TINY)
IN_ONE_PASS = "hardware.together=12"


def stages(folder: Path, store: str = "kdsweep-store") -> dict[str, dict]:
    files = folder.glob(f"{store}/*/stage.json")
    return {record["key"]: record for record in map(json.loads, (file.read_text() for file in files))}


def results(folder: Path) -> list[dict]:
    files = sorted(sweep_folder(folder).glob("*/result.json"), key=lambda file: int(file.parent.name))
    return [json.loads(file.read_text()) for file in files]


def test_a_sweep_in_passes_is_the_same_sweep(kdsweep: Command, tmp_path):
    shown = kdsweep(*SWEEP, IN_ONE_PASS).stdout
    together = stages(tmp_path)
    students = {key for key, record in together.items() if record["stage"]["parents"]}
    assert len(students) == 6
    assert {together[key]["made_by"]["together"] for key in students} == {6}
    assert len(together) == 2 + 2 + 6  # teachers, baselines, students

    lines = [line for line in shown.splitlines() if line.startswith("[")]
    assert len(lines) == 6 and all("trained in" in line for line in lines), shown
    first = [line.partition(", after ")[2] for line in lines]
    assert first == ["teacher and baseline"] * 2 + [""] * 4  # the first job of each seed
    assert [result["networks"]["student"]["reused"] for result in results(tmp_path)] == [False] * 6
    assert not (sweep_folder(tmp_path) / "together").exists()

    for run in runs(tmp_path)[1:]:
        history = client(tmp_path).get_metric_history(run.info.run_id, "train/loss")
        record = together[run.data.tags["kdsweep.stage"]]
        assert [point.value for point in history] == [epoch["train/loss"] for epoch in record["history"]]

    kdsweep(*SWEEP, "hardware.together=off", "store=other", "hydra.sweep.dir=alone")
    alone = stages(tmp_path, "other")
    assert alone.keys() == together.keys()
    assert not any("together" in record["made_by"] for record in alone.values())
    for key, record in alone.items():
        for epoch, same in zip(record["history"], together[key]["history"], strict=True):
            assert epoch["train/loss"] == pytest.approx(same["train/loss"], rel=1e-3)


def test_the_same_command_finds_them_and_more_of_them_join(kdsweep: Command, tmp_path):
    kdsweep(*SWEEP, IN_ONE_PASS)
    before = stages(tmp_path)
    again = kdsweep(*[each.replace("1,4,16", "1,4,16,32,64") for each in SWEEP], IN_ONE_PASS).stdout
    how = [
        line.partition("%  ")[2].rpartition("%  ")[2] for line in again.splitlines() if line.startswith("[")
    ]
    assert [each == "reused" for each in how] == [True] * 6 + [False] * 4
    added = [record for key, record in stages(tmp_path).items() if key not in before]
    assert [record["made_by"]["together"] for record in added] == [4] * 4


def test_one_whose_loss_is_no_number_fails_alone(kdsweep: Command, tmp_path):
    rates = ("-m", "training.learning_rate=0.001,1e30,0.002", "baseline=false", *TINY)
    done = kdsweep(*rates, IN_ONE_PASS, status=1)
    assert "job 1 " in done.stderr and "no longer finite" in done.stderr and "1e+30" in done.stderr
    assert [result["error"] is None for result in results(tmp_path)] == [True, False, True]
    passes = [record["made_by"].get("together") for record in stages(tmp_path).values()]
    assert sorted(passes, key=str) == [3, 3, None]  # and the teacher


def test_confirming_seeds_train_in_one_pass(kdsweep: Command, tmp_path):
    kdsweep("-m", "temperature=1,4", "confirm=3", "teacher.training.epochs=1", *TINY, IN_ONE_PASS)
    seeds = {
        record["stage"]["seed"]: record["made_by"].get("together")
        for record in stages(tmp_path).values()
        if record["stage"]["parents"]
    }
    assert seeds == {0: 2, 1: 3, 2: 3, 3: 3}


@pytest.mark.parametrize("wrong", ["1", "0", "2.5", "all", "true"])
def test_wrong_numbers_are_refused(kdsweep: Command, wrong):
    told = kdsweep("-m", "temperature=1,4", f"hardware.together={wrong}", status=1).stderr
    assert f"hardware.together={wrong}".lower() in told.lower() and "auto, off, or a number" in told
    assert "Traceback" not in told


LONG_PASS = ("-m", "seed=range(4)", "method=scratch", "training.epochs=30", "training.batch_size=16")
LONG_PASS += (IN_ONE_PASS, "hardware.threads=1")


def test_a_killed_pass_goes_on_to_the_same_weights(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    process = start(killed, *LONG_PASS)
    while len(list(killed.glob("kdsweep-store/unfinished/*/checkpoint.safetensors"))) < 4:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert epochs_done(killed) < 30
    again = start(killed, *LONG_PASS)
    errors = again.communicate()[1]
    assert again.returncode == 0, errors
    assert start(whole, *LONG_PASS).wait() == 0
    for key, record in stages(whole).items():
        assert stages(killed)[key]["history"] == record["history"]
        ours, theirs = (folder / "kdsweep-store" / key / "weights.safetensors" for folder in (killed, whole))
        assert ours.read_bytes() == theirs.read_bytes()
    assert not list(killed.glob("kdsweep-store/unfinished/*"))


@pytest.mark.long
def test_two_sweeps_at_once_share_what_either_trains(tmp_path):
    one = start(tmp_path, *LONG_PASS, "hydra.sweep.dir=one")
    while epochs_done(tmp_path) < 1:
        assert one.poll() is None, one.communicate()
        time.sleep(0.02)
    other = start(tmp_path, *LONG_PASS, "hydra.sweep.dir=other")
    for process in (one, other):
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        assert not left_of(process)
    assert len(stages(tmp_path)) == 4
    reused = [
        json.loads(file.read_text())["networks"]["student"]["reused"]
        for file in tmp_path.glob("other/*/result.json")
    ]
    assert reused == [True] * 4
