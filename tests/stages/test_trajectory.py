"""What teachers say of augmented images is kept, once, and changes no bit of whom it teaches."""

import errno
import itertools
import json
import logging
import multiprocessing
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from fitting import CPU, assert_same
from helpers import CNN, MLP, TINY, Command, kd_objective, labels_and, make_dataset, make_stage
from planning import keys
from safetensors.torch import load_file, save_file

from kdsweep.config import Augment, FineTuning, Hardware
from kdsweep.data.split import Split
from kdsweep.errors import TrainingError
from kdsweep.stage import Average, Stage
from kdsweep.stages import trajectory
from kdsweep.stages.answers import Answers
from kdsweep.stages.maker import Maker
from kdsweep.store import store as store_module
from kdsweep.store.origin import ENTRY
from kdsweep.store.store import ANSWERS, Store
from kdsweep.training.fit import fit, fit_together
from kdsweep.training.member import Fitted, Task

IMAGES, EPOCHS, CLASSES = 60, 4, 3
OTHERS = 40
PLAIN = make_dataset(train=IMAGES)
DATASET = replace(
    PLAIN,
    unlabeled=Split(
        make_dataset(train=OTHERS).train.images[::-1].copy(),
        torch.arange(OTHERS).numpy(),
        torch.full((OTHERS,), -1).numpy(),
    ),
    unlabeled_fingerprint="others",
)
RESNET = {"_target_": "kdsweep.networks.zoo.resnet.SmallResNet", "depth": 8}
MOVING = Augment(crop_padding=1, horizontal_flip=True)
TEACHERS = tuple(make_stage({**RESNET, "width": 2}, seed=seed, epochs=1) for seed in (0, 1))
TOGETHER = Average()
RECORDED = torch.Size((IMAGES, CLASSES))


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A store with the teachers."""
    folder = tmp_path_factory.mktemp("trained") / "store"
    maker = Maker(Store(folder).made(), DATASET, Hardware(device="cpu", threads=1), {}, lambda event: None)
    maker.train({f"teacher{number}": teacher for number, teacher in enumerate(TEACHERS)})
    return folder


@pytest.fixture
def root(trained, tmp_path) -> Path:
    """A store of the test's own, with the teachers."""
    return Path(shutil.copytree(trained, tmp_path / "store"))


class Asked(Counter[str]):
    """How many batches, by teacher, the networks of teachers saw in training."""


@pytest.fixture
def asked(monkeypatch) -> Asked:
    counted, build = Asked(), Answers.network

    def network(self: Answers, stage: Stage) -> torch.nn.Module:
        known = stage.key in self._built
        built = build(self, stage)
        if not known:
            built.register_forward_hook(
                lambda module, inputs, outputs: counted.update([stage.key] * (len(inputs[0]) > 2))
            )
        return built

    monkeypatch.setattr(Answers, "network", network)
    return counted


def taught(
    objective=None,
    teachers=TEACHERS[:1],
    augment=MOVING,
    model=MLP,
    average=TOGETHER,
    share: object = 0,
    **recipe,
) -> Stage:
    """A student of the teachers; with a `share` it learns from images without labels too."""
    stage = make_stage(model, objective or kd_objective(), teachers, augment=augment, **recipe)
    others = {} if share == 0 else {"unlabeled": {"fingerprint": "others", "share": share}}
    return replace(stage, data={**stage.data, **others}, average=average)


def train(root: Path, stage: Stage, gb: float = 2.0, on_epoch=lambda *event: None, unfinished=None) -> Fitted:
    """Train as a new process does, always anew unless there is an `unfinished` folder."""
    store = Store(root, answers_gb=gb)
    folder = unfinished or root.parent / f"unfinished-{next(_numbers)}"
    return fit(stage, DATASET, Answers(store, DATASET, lambda: CPU).teaching(stage), CPU, folder, on_epoch)


_numbers = itertools.count()


def kept(root: Path) -> list[Path]:
    """The folders of the entries, in the order of epochs."""
    return sorted(
        (file.parent for file in root.glob(f"*/{ANSWERS}")),
        key=lambda folder: json.loads((folder / ENTRY).read_text())["made_from"]["epoch"],
    )


def rows(folder: Path) -> torch.Tensor:
    (tensor,) = load_file(folder / ANSWERS).values()
    return tensor.clone()  # the file may be changed in place


def forget() -> None:
    """As in a new process, which reads the checksums again."""
    store_module._verified.clear()


# bit for bit

CRD = {"_target_": "kdsweep.methods.relations.crd.CRD", "taps": "embedding", "negatives": 8}
PKT = {"_target_": "kdsweep.methods.relations.pkt.pkt", "taps": "embedding"}
SRRL = {
    "_target_": "kdsweep.methods.features.srrl.SRRL",
    "taps": {"student": "map", "teacher": ["embedding", "logits"]},
    "beta": 1.0,
}
SECOND = FineTuning(epochs=2, learning_rate=0.001, trainable="head")
STUDENTS: dict[str, Callable[[], Stage]] = {
    "crop and flip": taught,
    "dropout, which draws too": lambda: taught(model=CNN),
    "mixup": lambda: taught(augment=Augment(mixup=0.4)),
    "cutmix": lambda: taught(augment=Augment(cutmix=1.0)),
    "both, of moved images": lambda: taught(augment=Augment(rotation=9, mixup=0.4, cutmix=1.0)),
    "torchvision's operations": lambda: taught(augment=Augment(trivial_augment=True)),
    "images without labels": lambda: taught(share=None),
    "a share of them, mixed": lambda: taught(share=0.5, augment=Augment(crop_padding=1, mixup=0.4)),
    "no others": lambda: taught(kd_objective(alpha=0.0), share=1),
    "two teachers by terms": lambda: taught(teachers=TEACHERS),
    "by probabilities": lambda: taught(teachers=TEACHERS, average=Average("probabilities", (0.25, 0.75))),
    "by logits": lambda: taught(teachers=TEACHERS, average=Average("logits")),
    "embeddings": lambda: taught(labels_and(pkt=PKT)),
    "embeddings, adapters and a memory": lambda: taught(labels_and(crd=CRD), teachers=TEACHERS),
    "the teacher's head": lambda: taught(labels_and(srrl=SRRL), model=RESNET),
    "two phases": lambda: taught(fine_tuning=SECOND),
    "early stopping": lambda: taught(patience=1, learning_rate=0.5),
    "balanced draws, averaged weights": lambda: taught(sampling="balanced", ema=0.9, batch_size=59),
    "float16": lambda: taught(answers="float16"),
}  # fmt: skip


@pytest.mark.parametrize("name", STUDENTS)
def test_kept_answers_teach_as_those_of_the_network_do(root, asked, name):
    stage = STUDENTS[name]()
    live = train(root, stage, gb=0)
    assert not kept(root)
    every = asked.copy()
    asked.clear()
    recording = train(root, stage)
    assert asked == every and set(every) == {teacher.key for teacher in stage.parents}
    asked.clear()
    playing = train(root, stage)
    assert not asked
    assert_same(live, recording)
    assert_same(live, playing)
    parts = 2 if name in ("embeddings", "embeddings, adapters and a memory", "the teacher's head") else 1
    assert len(kept(root)) == len(live.history) * len(stage.parents) * parts
    assert (len(live.history) < EPOCHS) == (name == "early stopping")


def test_maps_are_asked_for_in_every_step(root, asked):
    at = {"_target_": "kdsweep.methods.features.at.at", "taps": ["map"]}
    stage = taught(labels_and(at=at), model=CNN)
    for _ in range(2):
        train(root, stage)
    assert asked.total() == 2 * EPOCHS * 4 and not kept(root)


# once

MSE = "kdsweep.methods.logits.logit_mse.logit_mse"
SAME = {
    "another temperature": lambda: taught(kd_objective(16.0)),
    "another alpha": lambda: taught(kd_objective(alpha=0.1)),
    "another method": lambda: taught(labels_and(mse={"_target_": MSE})),
    "another network": lambda: taught(model=CNN),
    "another rate and fewer epochs": lambda: taught(learning_rate=0.1, epochs=2),
    "a moving average, clipped gradients": lambda: taught(ema=0.9, clip_norm=1.0),
    "one of two teachers": lambda: taught(teachers=TEACHERS[:1], average=Average("logits")),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_another_student_of_the_same_batches_finds_them(root, asked, name):
    train(root, taught())
    assert asked.total() == EPOCHS * 4, "once per batch of 16 of 60"
    assert [tuple(rows(folder).shape) for folder in kept(root)] == [RECORDED] * EPOCHS
    train(root, SAME[name]())
    assert asked.total() == EPOCHS * 4 and len(kept(root)) == EPOCHS


OTHER = {
    "another seed": lambda: taught(seed=1),
    "another teacher": lambda: taught(teachers=TEACHERS[1:]),
    "another augmentation": lambda: taught(augment=Augment(crop_padding=2)),
    "another batch size": lambda: taught(batch_size=20),
    "balanced draws": lambda: taught(sampling="balanced"),
    "other numbers": lambda: taught(answers="float16"),
    "bfloat16": lambda: taught(mixed_precision=True),
    "images without labels": lambda: taught(share=None),
    "other images": lambda: replace(taught(), data={**taught().data, "fingerprint": "other"}),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER)
def test_another_student_of_other_batches_does_not(root, asked, name):
    train(root, taught(epochs=1))
    before = asked.total()
    train(root, OTHER[name]())
    assert asked.total() > before and len(kept(root)) == 1 + EPOCHS


def test_a_method_that_looks_at_more_finds_what_it_shares(root, asked):
    train(root, taught())
    first = {folder.name for folder in kept(root)}
    train(root, taught(labels_and(pkt=PKT)))
    assert first < {folder.name for folder in kept(root)} and len(kept(root)) == 2 * EPOCHS
    before = asked.total()
    train(root, taught(kd_objective(2.0)))
    train(root, taught(labels_and(pkt=PKT), learning_rate=0.1))
    assert asked.total() == before


def test_a_further_teacher_is_asked_alone(root, asked):
    train(root, taught())
    train(root, taught(teachers=TEACHERS))
    assert asked == {teacher.key: EPOCHS * 4 for teacher in TEACHERS}


def test_more_epochs_ask_only_about_these(root, asked):
    train(root, taught())
    train(root, taught(epochs=EPOCHS + 2))
    assert asked.total() == (EPOCHS + 2) * 4


def test_a_pass_of_several_students_asks_once_and_keeps_the_same(root, asked, tmp_path):
    apart = Path(shutil.copytree(root, tmp_path / "apart"))
    train(apart, taught())
    asked.clear()
    stages = [taught(kd_objective(temperature)) for temperature in (1.0, 4.0)]
    teaching = Answers(Store(root, answers_gb=1), DATASET, lambda: CPU).teaching(stages[0])
    tasks = [Task(stage, teaching, tmp_path / stage.key) for stage in stages]
    assert [member.fitted().together for member in fit_together(tasks, DATASET, CPU)] == [2, 2]
    assert asked.total() == EPOCHS * 4
    for alone, together in zip(kept(apart), kept(root), strict=True):
        assert alone.name == together.name and torch.equal(rows(alone), rows(together))


# ends of a training


def test_an_interrupted_student_resumes_with_what_was_said(root, asked, tmp_path):
    whole = train(root, taught(), gb=0)
    asked.clear()

    def stop(epoch: int, *event: object) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(root, taught(), on_epoch=stop, unfinished=tmp_path / "unfinished")
    assert len(kept(root)) == 2
    assert_same(whole, train(root, taught(), unfinished=tmp_path / "unfinished"))
    again = asked.total()
    assert_same(whole, train(root, taught()))
    assert asked.total() == again <= (EPOCHS + 1) * 4


@pytest.mark.parametrize("error", [KeyboardInterrupt, TrainingError("NaN"), OSError(errno.EIO, "disk")])
def test_an_epoch_that_is_not_over_leaves_nothing(root, error):
    store = Store(root, answers_gb=1)
    teaching = Answers(store, DATASET, lambda: CPU).teaching(taught(teachers=TEACHERS))
    with pytest.raises(type(error) if isinstance(error, Exception) else error), teaching.epoch(1):
        teaching.ask(torch.arange(16), torch.zeros(16, 1, 8, 8))
        raise error
    assert not kept(root) and not list(root.glob(".*")) and not trajectory._recorded
    for lock in (root / "locks").iterdir():
        FileLock(lock).acquire(timeout=0)
    assert_same(train(root, taught(teachers=TEACHERS)), train(root, taught(teachers=TEACHERS), gb=0))


def test_what_a_killed_process_left_is_cleared(root):
    train(root, taught(epochs=1))
    (entry,) = kept(root)
    entry.rename(root / f".{entry.name}-12345678")
    forget()
    train(root, taught(epochs=1))
    assert kept(root) == [entry] and not list(root.glob(".*"))


# the limit


@pytest.mark.parametrize("epochs", [0, 1, 3])
def test_beyond_the_limit_the_teacher_is_asked(root, asked, epochs):
    size = IMAGES * CLASSES * 4  # bytes of an epoch
    live = train(root, taught(), gb=0)
    asked.clear()
    for _ in range(2):
        assert_same(live, train(root, taught(), gb=(epochs + 0.5) * size / 1e9))
        assert [rows(folder).numel() * 4 for folder in kept(root)] == [size] * epochs
    assert asked.total() == (EPOCHS + EPOCHS - epochs) * 4


def test_the_limit_is_one_for_all_that_a_teacher_says(root):
    embedding = load_width(root)
    size = IMAGES * (CLASSES + embedding) * 4
    train(root, taught(labels_and(pkt=PKT)), gb=2.5 * size / 1e9)
    shapes = Counter(rows(folder).shape[1] for folder in kept(root))
    assert shapes == {CLASSES: 2, embedding: 2}


def load_width(root: Path) -> int:
    """Of the teacher's embedding: what its head takes."""
    return load_file(root / TEACHERS[0].key / "weights.safetensors")["head.weight"].shape[1]


def test_what_is_kept_stays_within_the_budget_of_the_store(root):
    used = store_module.size_of(root)
    live = train(root, taught(), gb=0)
    store = Store(root, budget=(used + 2000) / 1e9, answers_gb=1)
    fitted = fit(
        taught(), DATASET, Answers(store, DATASET, lambda: CPU).teaching(taught()), CPU,
        root.parent / "u", lambda *event: None,
    )  # fmt: skip
    assert_same(live, fitted)
    assert 1 <= len(kept(root)) < EPOCHS
    Store(root, budget=(used + 5000) / 1e9).check_budget()


def test_a_full_disk_is_no_reason_to_fail(root, monkeypatch, caplog):
    live = train(root, taught(), gb=0)
    written = []

    def save(tensors, file: Path) -> None:
        written.append(file)
        file.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(trajectory, "save_file", save)
    trajectory.once.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert_same(live, train(root, taught()))
    assert len(written) == 1 and not kept(root) and not list(root.glob(".*"))
    assert caplog.text.count("teachers are asked in every step") == 1


def test_some_of_the_disk_is_left(root, monkeypatch):
    usage = shutil.disk_usage(root)._replace(free=10**9 + 500)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    train(root, taught(epochs=1))
    assert not kept(root), "it has 720 bytes"


# damage and removal


def test_a_damaged_entry_is_made_again(root, asked, caplog):
    live = train(root, taught(), gb=0)
    train(root, taught())
    said = rows(kept(root)[1])
    file = kept(root)[1] / ANSWERS
    file.write_bytes(file.read_bytes()[:-4] + b"torn")
    forget()
    asked.clear()
    with caplog.at_level(logging.WARNING):
        assert_same(live, train(root, taught()))
    assert asked.total() == 4 and "is damaged" in caplog.text
    assert len(kept(root)) == EPOCHS and torch.equal(rows(kept(root)[1]), said)


def test_entries_may_be_removed_while_a_student_learns_from_them(root, asked):
    live = train(root, taught(), gb=0)
    train(root, taught())
    asked.clear()
    store = Store(root)

    def remove(epoch: int, *event: object) -> None:
        if epoch == 2:
            assert all(store.remove(folder.name, folder) for folder in kept(root))

    assert_same(live, train(root, taught(), on_epoch=remove))
    assert asked.total() == 2 * 4 and len(kept(root)) == 2


def test_an_entry_may_vanish_before_it_is_read(root, asked, monkeypatch):
    live = train(root, taught(), gb=0)
    train(root, taught())
    asked.clear()
    find = Store.find

    def find_and_lose(self: Store, key: str) -> Path | None:
        entry = find(self, key)
        if entry and (entry / ANSWERS).exists():
            shutil.rmtree(entry)
        return entry

    monkeypatch.setattr(Store, "find", find_and_lose)
    assert_same(live, train(root, taught()))
    assert asked.total() == EPOCHS * 4 and len(kept(root)) == EPOCHS


# several processes


def _student(root: str, temperature: float, begin, queue) -> None:
    torch.set_num_threads(1)
    counted: Counter[str] = Counter()
    ask = trajectory.Live.__call__

    def count(self, indices, inputs):
        counted["batches"] += len(indices) > 2
        return ask(self, indices, inputs)

    trajectory.Live.__call__ = count
    stage = taught(kd_objective(temperature), epochs=30)
    begin.wait(60)
    fitted = train(Path(root), stage, unfinished=Path(root).parent / str(temperature))
    queue.put((temperature, counted["batches"], fitted.history))


@pytest.mark.long
def test_processes_at_once_ask_once(root):
    context = multiprocessing.get_context("spawn")
    queue, begin = context.Queue(), context.Barrier(2)
    processes = [
        context.Process(target=_student, args=(str(root), each, begin, queue)) for each in (1.0, 4.0)
    ]
    for process in processes:
        process.start()
    told = {temperature: (batches, history) for temperature, batches, history in (
        queue.get(timeout=120) for _ in processes)}  # fmt: skip
    for process in processes:
        process.join()
    assert sum(batches for batches, _ in told.values()) == 30 * 4
    assert len(kept(root)) == 30
    for temperature, (_, history) in told.items():
        live = train(root, taught(kd_objective(temperature), epochs=30), gb=0)
        assert live.history == history


def test_who_records_does_not_wait(root, asked):
    """Else two processes, each recording one of two teachers, might wait for each other forever."""
    live = train(root, taught(teachers=TEACHERS), gb=0)
    train(root, taught(teachers=TEACHERS, epochs=1))
    second = next(folder for folder in kept(root) if parent(folder) == TEACHERS[1].key)
    for folder in kept(root):
        shutil.rmtree(folder)
    asked.clear()
    with FileLock(root / "locks" / f"{second.name}.lock"):
        assert_same(live, train(root, taught(teachers=TEACHERS)))
    assert asked == {teacher.key: EPOCHS * 4 for teacher in TEACHERS}
    assert Counter(map(parent, kept(root))) == {TEACHERS[0].key: EPOCHS, TEACHERS[1].key: EPOCHS - 1}


def parent(folder: Path) -> str:
    (key,) = json.loads((folder / ENTRY).read_text())["parents"]
    return key


def test_who_records_nothing_waits(root, asked):
    train(root, taught(epochs=1))
    (entry,) = kept(root)
    aside = entry.rename(root.parent / "aside")
    held = threading.Event()

    def record() -> None:
        with FileLock(root / "locks" / f"{entry.name}.lock"):
            held.set()
            time.sleep(0.3)
            aside.rename(entry)

    other = threading.Thread(target=record)
    asked.clear()
    other.start()
    held.wait(10)
    train(root, taught(epochs=1))
    other.join()
    assert not asked


# float16


def test_float16_rounds_all_answers_and_halves_them(root):
    whole = train(root, taught())
    half = train(root, taught(answers="float16"))
    assert not all(torch.equal(whole.weights[name], half.weights[name]) for name in whole.weights)
    by_type = {each.dtype: each for each in map(rows, kept(root)[:2])}
    assert set(by_type) == {torch.float32, torch.float16}
    assert torch.equal(by_type[torch.float32].half(), by_type[torch.float16])


def test_float16_refuses_what_it_cannot_hold(root):
    weights = root / TEACHERS[0].key / "weights.safetensors"
    save_file({name: each * 1e6 for name, each in load_file(weights).items()}, weights)
    store_module._verified.add(weights.parent)
    with pytest.raises(TrainingError, match=r"training\.answers=float16: teacher .* too large"):
        train(root, taught(answers="float16"))
    forget()


AUGMENTED = "dataset.augment.crop_padding=1"
HALF = "training.answers=float16"


def test_float16_is_in_a_key_only_where_it_plays_a_part():
    plain, half = keys(AUGMENTED), keys(AUGMENTED, HALF)
    assert {role for role in plain if plain[role] != half[role]} == {"student"}
    assert keys(HALF) == keys(), "images that do not change are asked about once"
    assert keys(AUGMENTED, HALF, "alpha=1") == keys(AUGMENTED, "alpha=1"), "nobody teaches"
    assert keys(AUGMENTED, "teacher.training.answers=float16") == plain
    maps = ("method=at", AUGMENTED)
    assert keys(*maps, HALF) == keys(*maps), "maps are never kept"
    assert keys(AUGMENTED, "answers_gb=0") == plain


def test_float16_of_an_assistant_is_its_own():
    chain = (AUGMENTED, "method=takd", "chain_length=2",
             "student.assistants=[{name: p500, model: {_target_: a.b}}]")  # fmt: skip
    plain, half = keys(*chain), keys(*chain, HALF)
    assert {role for role in plain if plain[role] != half[role]} == {"assistant1", "student"}


# commands


@pytest.mark.long
def test_a_sweep_asks_once_and_the_next_never(kdsweep: Command, tmp_path):
    sweep = ("-m", "temperature=1,4,16", AUGMENTED, "hardware.together=off", *TINY)  # to compare bits
    kdsweep(*sweep)
    entries = {folder: (folder / ANSWERS).stat().st_mtime_ns for folder in kept(tmp_path / "kdsweep-store")}
    assert len(entries) == 2, "epochs"
    kdsweep(*sweep, "alpha=0.2")
    live = kdsweep("temperature=4", "alpha=0.2", AUGMENTED, *TINY, "store=live", "answers_gb=0")
    assert live and not kept(tmp_path / "live")
    again = {folder: (folder / ANSWERS).stat().st_mtime_ns for folder in kept(tmp_path / "kdsweep-store")}
    assert again == entries
    (alone,) = (key for key in stages(tmp_path / "live", "student"))
    theirs = load_file(tmp_path / "kdsweep-store" / alone / "weights.safetensors")
    ours = load_file(tmp_path / "live" / alone / "weights.safetensors")
    assert all(torch.equal(theirs[name], ours[name]) for name in ours)


def stages(root: Path, role: str) -> list[str]:
    described = (json.loads(file.read_text()) for file in root.glob(f"*/{ENTRY}"))
    return [each["key"] for each in described if each["role"] == role]
