"""kdsweep.run and kdsweep.sweep do what the command does, and leave the process as it was."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import TINY, Command, environment, epochs_done, runs
from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from PIL import Image
from safetensors.torch import load_file

import kdsweep as package
from kdsweep import KdsweepError
from kdsweep.data.arrays import read_arrays

ALONE = ("method=scratch", *TINY)
NET = """
from torch import nn

def net(num_classes, in_channels, image_size, width=4):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Linear(width, num_classes))
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with MLflow's database."""
    (tmp_path / database.name).write_bytes(database.read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_import_is_light():
    heavy = "{'torch', 'hydra', 'pandas', 'mlflow', 'rich', 'numpy'} & set(sys.modules)"
    code = f"import sys, kdsweep; assert not {heavy}; assert kdsweep.run and 'sweep' in dir(kdsweep)"
    subprocess.run([sys.executable, "-c", code], check=True, env=environment())
    with pytest.raises(AttributeError, match="no attribute 'swep'"):
        _ = package.swep


def test_a_job_is_the_commands_job(kdsweep: Command, here):
    kdsweep(*ALONE)
    outcome = package.run(*ALONE)
    assert outcome.table.reused.tolist() == [True], "the command had trained it"
    (told,) = [file for file in here.glob("outputs/*/*/result.json") if file.parent != outcome.folder]
    by_command = json.loads(told.read_text())
    assert outcome.record.results[0].student.key == by_command["networks"]["student"]["key"]
    assert outcome.table.val_accuracy[0] == by_command["networks"]["student"]["val"]["accuracy"]
    again = package.run(*ALONE)
    assert again.folder != outcome.folder
    assert again.table.test_accuracy.tolist() == outcome.table.test_accuracy.tolist()


def test_a_sweep_gives_table_answer_report_and_student(here, capsys):
    outcome = package.sweep("seed=range(2)", "training.learning_rate=0.01,0.0001", *ALONE)
    shown = capsys.readouterr().out
    assert outcome.answer and outcome.answer in shown
    table = outcome.table
    assert set(table.index) == {0, 1, 2, 3} and {"training.learning_rate", "seed"} <= set(table.columns)
    assert table.val_accuracy.tolist() == sorted(table.val_accuracy, reverse=True)
    assert outcome.failed == {} and "4 jobs" in repr(outcome)

    page = outcome.report()
    assert page.path == outcome.folder / "report.html" and page.path.stat().st_size > 1e6
    html = page._repr_html_()
    assert html.startswith("<iframe srcdoc=") and "about:srcdoc" in html and html.count("<iframe") == 1

    (images, labels) = _test_images(100)
    predicted = outcome.best.predict(images)
    best = max(outcome.record.results, key=lambda each: (each.val.accuracy, -each.val.cross_entropy))
    assert (predicted["class"] == labels).mean() == pytest.approx(best.test("student"))
    assert all(len(each) == 10 and abs(sum(each) - 1) < 1e-9 for each in predicted.probabilities)
    network = outcome.best.network()
    assert not network.training
    for name, tensor in load_file(outcome.best.weights).items():
        assert torch.equal(tensor, network.state_dict()[name])


def _test_images(count: int) -> tuple[np.ndarray, list[str]]:
    test = read_arrays("digits", "data").test
    return test.source[test.rows[:count]], [str(label) for label in test.labels[:count]]


def test_images_may_be_pixels_in_any_order_or_files(here):
    best = package.run(*ALONE).best
    images, _ = _test_images(3)
    expected = best.predict(images)
    for same in (images.transpose(0, 2, 3, 1), images[:, 0], torch.from_numpy(images), list(images)):
        assert best.predict(same).equals(expected)
    for number, image in enumerate(images):
        (here / "photos").mkdir(exist_ok=True)
        Image.fromarray(image[0]).save(here / "photos" / f"{number}.png")
    of_files = best.predict("photos")
    assert list(of_files.index) == [f"photos/{number}.png" for number in range(3)]
    assert of_files.probabilities.tolist() == expected.probabilities.tolist()
    (alone,) = best.predict([Path("photos/1.png")]).probability
    assert alone == pytest.approx(expected.probability[1]), "one image is rounded in another way"
    assert best.predict(images[:0]).empty
    for wrong in (images / 255, images[0, 0], np.zeros((2, 9, 9), np.uint8)):
        with pytest.raises(KdsweepError, match=r"uint8, \[N, 1, 8, 8\] or \[N, 8, 8, 1\]"):
            best.predict(wrong)
    (here / "photos" / "1.png").write_text("no image")
    with pytest.raises(KdsweepError, match=r"photos/1.png: "):
        best.predict("photos")


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["temprature=4"], "temprature: no such key; did you mean temperature?"),
        (["temperature=-1"], "temperature=-1: must be greater than 0"),
        (["student=nosuch"], "student/nosuch: no such option; allowed: "),
        (["-m"], "'-m': must be an override, KEY=VALUE, such as 'temperature=4'"),
        (["--help"], "'--help': must be an override, KEY=VALUE"),
        ([4], "4: must be an override, KEY=VALUE"),
        (["search=optuna"], "search=optuna: needs -m"),
        (["student.model={_target_:__main__.Net}"], "_target_=__main__.Net: is of a notebook or a script; "),
    ],
)
def test_a_mistake_raises_the_commands_words(overrides, told):
    with pytest.raises(KdsweepError) as error:
        package.run(*overrides)
    assert told in str(error.value)
    assert error.value.__cause__ is None and len(error.traceback) < 6, "no frames of Hydra's"


def test_more_mistakes():
    with pytest.raises(KdsweepError, match="'/nosuch' not found"):
        package.run(*ALONE, config_dir="/nosuch")
    with pytest.raises(KdsweepError, match="no such key") as error:
        package.run("temprature=4", "debug=true")
    assert error.value.__cause__ is not None
    with pytest.raises(KdsweepError, match="no such job has finished; allowed: 0"):
        package.run(*ALONE).trained(job=3)


def test_a_failed_job_is_in_the_outcome_and_without_any_other_raises(here, capsys):
    outcome = package.sweep("training.learning_rate=1e30,0.001", *ALONE)
    assert list(outcome.failed) == [0] and "the loss is no longer finite" in outcome.failed[0]
    assert "failed: 0" in repr(outcome)
    assert outcome.table.index.tolist() == [1, 0]
    assert outcome.table.error[0] == outcome.failed[0] and outcome.table.error.notna().sum() == 1
    with pytest.raises(KdsweepError, match=r"^no job has finished; job 0: student: the loss is no longer"):
        package.sweep("training.learning_rate=1e30", *ALONE)
    with pytest.raises(KdsweepError, match=r"^student: the loss is no longer finite"):
        package.run("training.learning_rate=1e30", *ALONE)


def test_a_plan_is_shown_and_nothing_is_run(here, capsys):
    outcome = package.sweep("seed=range(2)", "plan=true", *ALONE)
    assert "2 jobs over seed" in capsys.readouterr().out
    assert outcome.folder is None and outcome.table.empty and "nothing was run" in repr(outcome)
    with pytest.raises(KdsweepError, match="nothing to report"):
        outcome.report()
    with pytest.raises(KdsweepError, match="no job of the sweep has finished"):
        _ = outcome.best
    assert not (here / "multirun").exists()


@pytest.mark.parametrize("overrides", [ALONE, ("temperature=-1",)], ids=["job", "mistake"])
def test_the_process_is_as_it_was(here, overrides):
    written = logging.FileHandler(here / "mine.log", mode="w")
    root, mine = logging.getLogger(), logging.getLogger("mine")
    root.addHandler(written)
    mine.setLevel(logging.DEBUG)
    before = _state()
    try:
        for _ in range(2):
            with pytest.raises(KdsweepError) if overrides != ALONE else _nothing():
                package.run(*overrides)
        assert _state() == before
        mine.warning("still here")
        assert (here / "mine.log").read_text() == "still here\n"
    finally:
        root.removeHandler(written)


def _nothing():
    from contextlib import nullcontext

    return nullcontext()


def _state() -> dict[str, object]:
    loggers = [logging.getLogger(), logging.getLogger("mine"), logging.getLogger("hydra")]
    return {
        "argv": sys.argv[:],
        "path": sys.path[:],
        "cwd": Path.cwd(),
        "environment": dict(os.environ),
        "signals": [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)],
        "logging": [(each.level, each.handlers[:]) for each in loggers],
        "hydra": GlobalHydra.instance().hydra,
        "threads": torch.get_num_threads(),
        "streams": (sys.stdout.errors, sys.stderr.errors),
        "random": torch.get_rng_state().tolist(),
    }


def test_a_program_of_hydras_may_run_it(here):
    with initialize_config_module("kdsweep.conf"):
        mine = GlobalHydra.instance().hydra
        assert package.run(*ALONE).table.error[0] is None
        assert GlobalHydra.instance().hydra is mine


def test_an_edited_network_is_another_one_in_the_same_process(here, monkeypatch):
    """A notebook that has imported it goes on with the new file too."""
    monkeypatch.syspath_prepend(str(here))
    (here / "mine_of_api.py").write_text(NET)
    __import__("mine_of_api")
    student = here / "my_conf" / "student"
    student.mkdir(parents=True)
    (student / "mine.yaml").write_text("name: mine\nmodel: { _target_: mine_of_api.net }\n")
    tiny = [each for each in ALONE if not each.startswith("student")]
    first = package.run("student=mine", *tiny, config_dir="my_conf").best
    assert first.network()[1].out_features == 4
    (here / "mine_of_api.py").write_text(NET.replace("width=4", "width=16"))
    with pytest.raises(KdsweepError, match="has changed since it was trained"):
        first.network()
    second = package.run("student=mine", *tiny, config_dir="my_conf")
    assert second.table.reused.tolist() == [False]
    assert second.best.network()[1].out_features == 16
    (here / "mine_of_api.py").write_text(NET.replace("nn.Flatten(), ", "nn.Flatten(),, "))
    with pytest.raises(KdsweepError, match="SyntaxError"):
        package.run("student=mine", *tiny, config_dir="my_conf")
    (here / "mine_of_api.py").write_text(NET)
    third = package.run("student=mine", *tiny, config_dir="my_conf")
    assert third.table.reused.tolist() == [True]


@pytest.mark.long
def test_an_interrupted_run_resumes(here):
    long = ("method=scratch", "training.epochs=60", "training.batch_size=16", "dataset.train_limit=400")
    threading.Thread(target=_interrupt_in_training, args=(here,)).start()
    with pytest.raises(KeyboardInterrupt, match="the same call again resumes"):
        package.run(*long)
    assert [run.info.status for run in runs(here)] == ["KILLED"]
    begun = epochs_done(here)
    assert 0 < begun < 60
    outcome = package.run(*long)
    assert len(outcome.record.results[0].student.history) == 60
    assert not list(here.glob("kdsweep-store/unfinished/*/checkpoint.safetensors"))


def _interrupt_in_training(folder: Path) -> None:
    deadline = time.monotonic() + 100
    while epochs_done(folder) < 1 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGINT)


def test_one_run_at_a_time(here):
    from kdsweep import api

    with api._running, pytest.raises(KdsweepError, match="another run is under way"):
        package.run(*ALONE)


@pytest.mark.long
def test_jobs_in_other_processes(here):
    parallel = ("hardware=cpu_parallel", "hardware.jobs=2", "seed=range(2)", *ALONE)
    assert package.sweep(*parallel).table.reused.tolist() == [False, False]
    assert package.sweep(*parallel).table.reused.tolist() == [True, True]


@pytest.mark.long
def test_a_search(here):
    outcome = package.sweep("search=temperature_alpha", "search.n_trials=2", "baseline=false", *TINY)
    assert {"temperature", "alpha"} <= set(outcome.table.columns) and len(outcome.table) == 2
