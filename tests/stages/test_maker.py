"""The order in which a job trains its stages while others train some of them."""

import multiprocessing
import time
from pathlib import Path

import torch
from filelock import FileLock
from helpers import CNN, MLP, kd_objective, make_dataset, make_stage

from kdsweep.config import Hardware
from kdsweep.results.events import StageFinished, Waiting
from kdsweep.stages.maker import Maker
from kdsweep.stages.trainer import _provenance
from kdsweep.store.store import Store

TEACHER = make_stage(CNN)
ALONE = make_stage(MLP)
STUDENT = make_stage(MLP, kd_objective(), (TEACHER,))


def _hold(root: str, key: str, until: str, most: float, held) -> None:
    """As another job that trains the stage `key`, until the stage `until` is there, or too long."""
    with FileLock(Path(root) / "locks" / f"{key}.lock"):
        held.set()
        end = time.monotonic() + most
        while not (Path(root) / until).exists() and time.monotonic() < end:
            time.sleep(0.05)


def order_while_another_trains(folder: Path, locked: str, until: str, most: float = 60) -> list[str]:
    """What a job does, by role, waiting included."""
    events: list[object] = []
    shop = Maker(Store(folder).made(), make_dataset(), Hardware(device="cpu", threads=1), {}, events.append)
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    other = context.Process(target=_hold, args=(str(folder), locked, until, most, held))
    other.start()
    try:
        assert held.wait(60)
        done = shop.train({"teacher": TEACHER, "scratch": ALONE, "student": STUDENT})
    finally:
        other.join()
    assert list(done) == ["teacher", "scratch", "student"]  # as they are shown, whatever came first
    words = {StageFinished: "", Waiting: "waits for "}
    return [words[type(event)] + event.role for event in events if type(event) in words]


def test_the_student_alone_is_trained_while_another_job_trains_the_teacher(tmp_path):
    order = order_while_another_trains(tmp_path, TEACHER.key, until=ALONE.key)
    assert order[0] == "scratch" and order[-2:] == ["teacher", "student"]


def test_the_student_is_trained_while_another_job_trains_it_alone(tmp_path):
    order = order_while_another_trains(tmp_path, ALONE.key, until=STUDENT.key)
    assert order[:2] == ["teacher", "student"] and order[-1] == "scratch"


def test_a_job_waits_where_there_is_nothing_else_to_do(tmp_path):
    shop = Maker(Store(tmp_path), make_dataset(), Hardware(device="cpu", threads=1), {}, lambda event: None)
    shop.train({"scratch": ALONE})
    order = order_while_another_trains(tmp_path, TEACHER.key, until="nothing", most=1)
    assert order == ["scratch", "waits for teacher", "teacher", "student"]


def test_a_stage_records_the_versions_of_the_libraries_whose_networks_it_may_be():
    import torchvision

    made = _provenance(torch.device("cpu"), Hardware(device="cpu", threads=1))
    assert made["torchvision"].partition("+")[0] == torchvision.__version__.partition("+")[0]
    assert made["torch"] == str(torch.__version__)
