"""Which stages of a sweep train in one pass, and how its jobs come by them."""

import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
from filelock import FileLock
from fitting import TERMS
from helpers import CNN, MLP, kd_objective, labels_and, make_dataset, make_stage, optimizer, schedule
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from kdsweep.config import Augment, FineTuning, Hardware
from kdsweep.errors import AskedToLeave, TrainingError
from kdsweep.results.events import EpochEnded, StageFinished
from kdsweep.stage import Average, Stage
from kdsweep.stages import trainer as module
from kdsweep.stages.companions import FOLDER, STAGES, Companions, groups
from kdsweep.stages.graph import Links, nodes
from kdsweep.stages.maker import Maker
from kdsweep.store.store import Store
from kdsweep.training import fit

SGD = optimizer("SGD", momentum=0.9)
MOVING = Augment(crop_padding=1, horizontal_flip=True)


def recipe(**changes: object) -> dict[str, object]:
    return {"optimizer": SGD, "learning_rate": 0.02, "epochs": 2, **changes}


def job(seed: int = 0, temperature: float = 4.0, alpha: float = 0.5, model=MLP, **changes: object) -> Links:
    """A teacher and its student, of one seed."""
    teacher = make_stage(CNN, seed=seed, **recipe(epochs=1))
    objective = kd_objective(temperature, alpha)
    return {
        "teacher": teacher,
        "student": make_stage(model, objective, (teacher,), seed, **recipe(**changes)),
    }


def keys(stages: Sequence[Stage]) -> list[str]:
    return [stage.key for stage in stages]


# groups


def test_a_group_has_the_stages_that_differ_in_seeds_and_numbers():
    jobs = [job(seed, temperature, learning_rate=rate) for seed in (0, 1) for temperature in (1.0, 4.0)
            for rate in (0.1, 0.2)]  # fmt: skip
    teachers, students = groups(jobs, 1)
    assert keys(teachers) == keys([jobs[0]["teacher"], jobs[4]["teacher"]])
    assert keys(students) == keys([each["student"] for each in jobs])


def test_those_of_a_kind_are_dealt_to_the_jobs_that_run_at_once():
    jobs = [job(seed) for seed in range(7)]
    students = [each["student"] for each in jobs]
    dealt = [group for group in groups(jobs, 3) if group[0] in students]
    assert dealt == [
        [students[0], students[3], students[6]],
        [students[1], students[4]],
        [students[2], students[5]],
    ]
    dealt = [group for group in groups(jobs, 2, most=2) if group[0] in students]
    assert dealt == [[students[0], students[2]], [students[4], students[6]], [students[3], students[5]]]
    assert groups(jobs[:2], 2) == [], "as many jobs as stages: each trains its own"


def test_where_not_all_have_room_those_of_a_seed_are_together():
    """They share images and teacher, whatever order the jobs have."""
    jobs = [job(seed, temperature) for temperature in (1.0, 2.0, 4.0) for seed in (0, 1)]
    found = [group for group in groups(jobs, 1, most=3) if len(group[0].parents)]
    assert [{stage.seed for stage in group} for group in found] == [{0}, {1}]


ONE = make_stage(MLP, kd_objective(), (make_stage(CNN),))
OTHERS = {
    "model": replace(ONE, model={**MLP, "hidden": [8]}),
    "data": replace(ONE, data={**ONE.data, "fingerprint": "other"}),
    "augmentation": make_stage(MLP, kd_objective(), ONE.parents, augment=MOVING),
    "batch size": make_stage(MLP, kd_objective(), ONE.parents, batch_size=8),
    "optimizer": make_stage(MLP, kd_objective(), ONE.parents, optimizer=SGD),
    "momentum": make_stage(MLP, kd_objective(), ONE.parents, optimizer=optimizer("Adam", betas=[0.8, 0.9])),
    "schedule": make_stage(MLP, kd_objective(), ONE.parents, schedule=schedule("ExponentialLR", gamma=0.9)),
    "epochs": make_stage(MLP, kd_objective(), ONE.parents, epochs=5),
    "patience": make_stage(MLP, kd_objective(), ONE.parents, patience=1),
    "ema": make_stage(MLP, kd_objective(), ONE.parents, ema=0.9),
    "clip_norm": make_stage(MLP, kd_objective(), ONE.parents, clip_norm=1.0),
    "a second phase": make_stage(MLP, kd_objective(), ONE.parents,
                                 fine_tuning=FineTuning(epochs=1, learning_rate=0.1, trainable="all")),
    "terms": make_stage(MLP, labels_and(0.5, dkd=TERMS["dkd"]), ONE.parents),
    "an option": make_stage(MLP, kd_objective(standardize=True), ONE.parents),
    "a number that is not given": make_stage(MLP, kd_objective(warmup=2), ONE.parents),
    "code": replace(ONE, source="of the user's"),
    "initial weights": replace(ONE, initial="a file's"),
    "the kind of the teacher": replace(ONE, parents=(make_stage(MLP),)),
    "two teachers": replace(ONE, parents=(*ONE.parents, make_stage(MLP))),
    "average": replace(ONE, average=Average("logits")),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_what_keeps_stages_apart(name):
    assert groups([{"student": ONE}, {"student": OTHERS[name]}], 1) == []
    assert len(groups([{"student": ONE}, {"student": replace(ONE, seed=1)}], 1)) == 1


numbers = st.sampled_from([1.0, 2, 4.0])
stages = st.deferred(
    lambda: st.builds(
        lambda model, temperature, alpha, parents, seed, rate, decay, size, augment, flag: make_stage(
            model,
            kd_objective(temperature, alpha, standardize=flag) if parents else None,
            tuple(parents),
            seed,
            augment,
            optimizer={**SGD, "weight_decay": decay},
            learning_rate=rate,
            batch_size=size,
        ),
        st.sampled_from([MLP, CNN]), numbers, st.sampled_from([0.1, 0.5]), st.lists(stages, max_size=2),
        st.integers(0, 1), numbers, numbers, st.sampled_from([8, 16]), st.sampled_from([Augment(), MOVING]),
        st.booleans(),
    )
)  # fmt: skip


def like(stage: Stage, other: Stage) -> Stage:
    """A stage with all that `other` may have of its own."""

    def numbers_of(term: Mapping[str, object], others: Mapping[str, object]) -> dict[str, object]:
        numbers = {key: value for key, value in others.items() if type(value) in (int, float)}
        return {
            **term,
            **{key: value for key, value in numbers.items() if type(term.get(key)) in (int, float)},
        }

    decay = {key: value for key, value in other.training.optimizer.items() if key == "weight_decay"}
    same = stage.objective.keys() == other.objective.keys() and len(stage.parents) == len(other.parents)
    return replace(
        stage,
        seed=other.seed,
        training=stage.training.model_copy(
            update={
                "learning_rate": other.training.learning_rate,
                "optimizer": {**stage.training.optimizer, **decay},
            }
        ),
        objective={name: numbers_of(term, other.objective[name]) for name, term in stage.objective.items()}
        if same
        else stage.objective,
        parents=tuple(map(like, stage.parents, other.parents)) if same else stage.parents,
    )


@given(st.lists(stages, min_size=1, max_size=8), st.integers(1, 3), st.integers(2, 4))
def test_every_stage_is_in_one_group_with_the_like_of_it(drawn, at_once, most):
    jobs = [{"student": stage} for stage in drawn]
    found = groups(jobs, at_once, most)
    every = [stage.key for group in found for stage in group]
    assert len(every) == len(set(every)) and set(every) <= {stage.key for stage in drawn}
    for group in found:
        assert 2 <= len(group) <= most
        for one, other in combinations(group, 2):
            assert like(one, other).key == other.key != one.key
    whole = {stage.key: {each.key for each in group} for group in groups(jobs, 1, 100) for stage in group}
    for one, other in combinations({stage.key: stage for stage in drawn}.values(), 2):
        assert (other.key in whole.get(one.key, ())) == (like(one, other).key == other.key)


def test_dense_chains_are_read_fast():
    """In a chain of N each stage has all before it as teachers: by way of them there are 2^N to be read."""
    start = time.perf_counter()
    jobs = []
    for seed in (0, 1):
        chain: list[Stage] = [make_stage(CNN, seed=seed)]
        for number in range(30):
            chain.append(make_stage({**MLP, "hidden": [number + 1]}, kd_objective(), tuple(chain), seed))
        jobs.append({f"stage{number}": stage for number, stage in enumerate(chain)})
    assert len(groups(jobs, 1)) == 31
    assert time.perf_counter() - start < 10


# what the sweep leaves


def with_everything(seed: int) -> Stage:
    """A student at the end of a dense chain, of two teachers, with all that a recipe may have."""
    given = replace(make_stage(MLP, seed=seed), initial="a file's", source="code's")
    teachers = (make_stage(CNN, seed=seed), given)
    middle = replace(make_stage(MLP, kd_objective(), teachers, seed), average=Average("terms", (0.3, 0.7)))
    own = {
        "_target_": "own.term", "_source_": "digest", "taps": ["map", "logits"], "weight": 1e-7,
        "warmup": 0.5, "standardize": True, "names": [1, "a"],
    }  # fmt: skip
    last = make_stage(
        MLP,
        {**kd_objective(1 / 3, 0.1), "own": own},
        (*teachers, middle),
        seed,
        Augment(mixup=0.2, zoom=(0.5, 1), resized_crop=(0.5, 1), random_erasing=0.1),
        optimizer=optimizer("AdamW", betas=[0.9, 0.99], weight_decay=1e-4),
        schedule=schedule("SequentialLR", milestones=[2], schedulers=[schedule("ConstantLR", factor=0.1)]),
        fine_tuning=FineTuning(epochs=2, learning_rate=1e-5, trainable=2),
        answers="float16", ema=0.99, clip_norm=1.0, sampling="balanced", patience=2, mixed_precision=True,
    )  # fmt: skip
    return replace(
        last,
        data={**last.data, "unlabeled": {"fingerprint": "others", "share": 0.5}},
        source="code's",
        defaults={"dropout": 0.1},
        average=Average("logits"),
        name="mlp",
        images=60,
    )


def test_stages_are_read_as_they_were_written(tmp_path):
    jobs = [{"student": with_everything(seed)} for seed in range(3)]
    (group,) = groups(jobs, 1)
    Companions.leave(tmp_path, [group])
    (tmp_path / "0" / "more").mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "0", tmp_path / "0" / "more"):
        read = Companions.of_job(folder).beside(group[1])
        assert keys(read) == keys([group[0], group[2]])
        for one, other in zip(read, (group[0], group[2]), strict=True):
            assert (one.training, one.augment) == (other.training, other.augment)
            assert (one.average, one.name, one.images) == (other.average, other.name, other.images)
            assert keys(one.parents) == keys(other.parents)
    assert Companions.of_job(tmp_path).beside(make_stage()) == []


def test_without_groups_nothing_is_left(tmp_path):
    Companions.leave(tmp_path, [])
    assert not list(tmp_path.iterdir())
    assert Companions.of_job(tmp_path) == Companions() and Companions().beside(ONE) == []
    assert not Companions().take(ONE)


def test_a_stage_trained_for_others_is_taken_once(tmp_path):
    two = replace(ONE, seed=1)
    Companions.leave(tmp_path, [[ONE, two]])
    jobs = [Companions.of_job(tmp_path) for _ in range(3)]
    jobs[0].trained(two)
    assert [each.take(two) for each in jobs] == [True, False, False]
    assert not jobs[0].take(ONE)


def test_a_sweep_that_ends_takes_it_away_and_a_job_that_still_runs_goes_on(tmp_path):
    two = replace(ONE, seed=1)
    Companions.leave(tmp_path, [[ONE, two]])
    late, reading = Companions.of_job(tmp_path), Companions.of_job(tmp_path)
    assert keys(reading.beside(ONE)) == [two.key]
    Companions.forget(tmp_path)
    assert not list(tmp_path.iterdir())
    reading.trained(two)
    assert not reading.take(two) and late.beside(ONE) == [] and keys(reading.beside(ONE)) == [two.key]
    Companions.forget(tmp_path)


def _cut(text: str) -> str:
    return text[: len(text) // 2]


def _of_another_version(text: str) -> str:
    return text.replace('"batch_size"', '"images_per_batch"')


def _with_another_seed(text: str) -> str:
    return text.replace('"seed": 1', '"seed": 7')


@pytest.mark.parametrize("damage", [_cut, _of_another_version, _with_another_seed, lambda text: "[]"])
def test_what_cannot_be_used_makes_stages_train_one_by_one(tmp_path, caplog, damage):
    Companions.leave(tmp_path, [[ONE, replace(ONE, seed=1)]])
    file = tmp_path / FOLDER / STAGES
    assert damage(file.read_text()) != file.read_text()
    file.write_text(damage(file.read_text()))
    with caplog.at_level(logging.WARNING):
        assert Companions.of_job(tmp_path).beside(ONE) == []
    assert "cannot be used" in caplog.text and "stages train one by one" in caplog.text


# the jobs


class Sweep:
    """A sweep of `jobs`, which run one after the other; `passes` has the keys of each training's stages."""

    def __init__(self, folder: Path, jobs: Sequence[Links], together: object = 32, dataset=None) -> None:
        self.jobs, self.together = jobs, together
        self.folder, self.store = folder / "sweep", Store(folder / "store").made()
        self.dataset = dataset or make_dataset()
        self.passes: list[list[str]] = []
        self.folder.mkdir()
        Companions.leave(self.folder, groups(jobs, 1))

    def run(self, number: int) -> list[object]:
        """The events of a job."""
        events: list[object] = []
        hardware = Hardware(device="cpu", threads=1, together=self.together)
        maker = Maker(self.store, self.dataset, hardware, {}, events.append, folder=self.folder / str(number))
        maker.train(self.jobs[number])
        return events

    def record(self, stage: Stage) -> dict:
        entry = self.store.find(stage.key)
        assert entry
        return json.loads((entry / "stage.json").read_text())


@pytest.fixture
def sweep(tmp_path, monkeypatch) -> Callable[..., Sweep]:
    monkeypatch.setattr(module, "_sizes", {})
    original = fit.fit_together

    def sweep(jobs: Sequence[Links], **options: object) -> Sweep:
        made = Sweep(tmp_path, jobs, **options)

        def noted(tasks, *given):
            made.passes.append([task.stage.key for task in tasks])
            return original(tasks, *given)

        monkeypatch.setattr(fit, "fit_together", noted)
        return made

    return sweep


def finished(events: Sequence[object]) -> list[tuple[str, bool]]:
    return [(each.role, each.reused) for each in events if isinstance(each, StageFinished)]


def epochs(events: Sequence[object]) -> list[tuple[str, int]]:
    return [(each.role, each.epoch) for each in events if isinstance(each, EpochEnded)]


def assert_as_one_by_one(made: Sweep, folder: Path) -> None:
    """The stages of a sweep are those that its jobs train each for itself."""
    alone = Maker(
        Store(folder).made(), made.dataset, Hardware(device="cpu", threads=1), {}, lambda event: None
    )
    for links in made.jobs:
        alone.train(links)
    for node in nodes(made.jobs).values():
        entry = made.store.find(node.stage.key)
        ours, theirs = (
            load_file(path / "weights.safetensors") for path in (entry, alone.weights(node.stage).parent)
        )
        difference = max((ours[name].double() - theirs[name].double()).abs().max().item() for name in theirs)
        assert difference < 1e-4


def test_the_first_job_trains_for_the_others(tmp_path, sweep):
    """Teachers first, each kind in one pass; the others find their stages, which are not reused to them."""
    jobs = [job(seed, temperature) for seed in (0, 1) for temperature in (1.0, 4.0)]
    made = sweep(jobs)
    first = made.run(0)
    students = keys([each["student"] for each in jobs])
    assert made.passes == [keys([jobs[0]["teacher"], jobs[2]["teacher"]]), students]
    assert epochs(first) == [("teacher", 1), ("student", 1), ("student", 2)], "it shows its own epochs alone"
    assert finished(first) == [("teacher", False), ("student", False)]
    later = [made.run(number) for number in (1, 2, 3)]
    assert len(made.passes) == 2 and [epochs(each) for each in later] == [[]] * 3
    assert [finished(each) for each in later] == [
        [("teacher", True), ("student", False)],
        [("teacher", False), ("student", False)],
        [("teacher", True), ("student", False)],
    ]
    assert finished(made.run(3)) == [("teacher", True), ("student", True)]
    for each in jobs:
        assert made.record(each["student"])["made_by"]["together"] == 4
        assert made.record(each["teacher"])["made_by"]["together"] == 2
        assert len(made.record(each["student"])["history"]) == 2
        assert made.record(each["student"])["key"] == each["student"].key
    assert not list((tmp_path / "store" / "unfinished").iterdir())
    assert_as_one_by_one(made, tmp_path / "alone")


def test_their_curves_are_their_own(sweep):
    jobs = [job(seed) for seed in (0, 1)]
    made = sweep(jobs)
    events = [*made.run(0), *made.run(1)]
    histories = [
        each.history for each in events if isinstance(each, StageFinished) and each.role == "student"
    ]
    assert len(histories) == 2 and histories[0] != histories[1]


def test_answers_to_augmented_images_are_shared_by_those_of_a_seed(tmp_path, sweep):
    jobs = [job(seed, temperature, augment=MOVING) for seed in (0, 1) for temperature in (1.0, 4.0)]
    made = sweep(jobs)
    made.store.answers_gb = 1.0
    made.run(0)
    assert [len(each) for each in made.passes] == [2, 4]
    assert len(made.store.answers()) == 2 * 2, "of two seeds and two epochs"
    assert_as_one_by_one(made, tmp_path / "alone")


def test_switched_off_each_job_trains_its_own(sweep):
    jobs = [job(0, temperature) for temperature in (1.0, 4.0)]
    made = sweep(jobs, together="off")
    made.run(0)
    assert made.passes == [[jobs[0]["teacher"].key], [jobs[0]["student"].key]]
    assert "together" not in made.record(jobs[0]["student"])["made_by"]


def test_what_cannot_be_stacked_trains_one_by_one(sweep):
    fitnet = [{**TERMS["fitnet"], "taps": "stage1", "weight": weight} for weight in (0.1, 0.5)]
    teacher = make_stage(CNN, **recipe(epochs=1))
    students = [make_stage(CNN, labels_and(0.5, fitnet=term), (teacher,), **recipe()) for term in fitnet]
    jobs = [{"teacher": teacher, "student": student} for student in students]
    made = sweep(jobs)
    events = [made.run(number) for number in range(2)]
    assert [len(each) for each in made.passes] == [1, 1, 1]
    assert [finished(each) for each in events] == [
        [("teacher", False), ("student", False)],
        [("teacher", True), ("student", False)],
    ]


@pytest.mark.parametrize("locked", ["student", "teacher"])
def test_a_stage_that_another_job_is_training_is_left_out(sweep, locked):
    """Or whose teacher is; this job does not wait for it."""
    jobs = [job(seed) for seed in range(3)]
    made = sweep(jobs)
    with FileLock(made.store.root / "locks" / f"{jobs[1][locked].key}.lock"):
        made.run(0)
    assert made.passes[-1] == keys([jobs[0]["student"], jobs[2]["student"]])
    assert not made.store.find(jobs[1]["student"].key)
    assert finished(made.run(1)) == [("teacher", False), ("student", False)]
    assert made.passes[-1] == [jobs[1]["student"].key]


def test_a_stage_that_the_store_has_is_left_out(sweep):
    jobs = [job(0, temperature) for temperature in (1.0, 2.0, 4.0)]
    made = sweep(jobs)
    made.together = "off"
    made.run(1)
    made.together = 32
    made.run(0)
    assert made.passes[-1] == keys([jobs[0]["student"], jobs[2]["student"]])
    assert finished(made.run(1))[-1] == ("student", True)


def test_one_that_fails_leaves_no_entry_and_its_own_job_says_why(sweep):
    jobs = [job(0, 4.0, learning_rate=rate) for rate in (0.02, 1e30, 0.01)]
    made = sweep(jobs)
    made.run(0)
    assert [len(each) for each in made.passes] == [1, 3]
    assert made.store.find(jobs[2]["student"].key) and not made.store.find(jobs[1]["student"].key)
    with pytest.raises(TrainingError, match=r"student: the loss is no longer finite in epoch 1; .* 1e\+30"):
        made.run(1)
    assert not made.store.find(jobs[1]["student"].key)
    assert finished(made.run(2)) == [("teacher", True), ("student", False)]


def test_a_job_that_fails_has_trained_the_others(sweep):
    jobs = [job(0, 4.0, learning_rate=rate) for rate in (1e30, 0.02)]
    made = sweep(jobs)
    with pytest.raises(TrainingError, match="student: the loss is no longer finite"):
        made.run(0)
    trained = len(made.passes)
    assert finished(made.run(1)) == [("teacher", True), ("student", False)] and len(made.passes) == trained


def test_a_teacher_that_fails_leaves_its_students_out(sweep):
    jobs = [job(seed) for seed in (0, 1)]
    broken = replace(
        jobs[1]["teacher"], training=jobs[1]["teacher"].training.model_copy(update={"learning_rate": 1e30})
    )
    jobs[1] = {"teacher": broken, "student": replace(jobs[1]["student"], parents=(broken,))}
    made = sweep(jobs)
    assert finished(made.run(0)) == [("teacher", False), ("student", False)]
    assert made.passes[-1] == [jobs[0]["student"].key]
    with pytest.raises(TrainingError, match="teacher: the loss is no longer finite"):
        made.run(1)


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), TrainingError("a teacher says too much")])
def test_a_pass_that_fails_fails_no_job(sweep, monkeypatch, error):
    """The job trains its own stage then, and no other pass is tried."""
    jobs = [job(0, temperature) for temperature in (1.0, 2.0, 4.0)]
    made = sweep(jobs)
    noted = fit.fit_together

    def small(tasks, *given):
        if len(tasks) > 1:
            made.passes.append([task.stage.key for task in tasks])
            raise error
        return noted(tasks, *given)

    monkeypatch.setattr(fit, "fit_together", small)
    for number in range(3):
        assert finished(made.run(number))[-1] == ("student", False)
    assert [len(each) for each in made.passes] == [1, 3, 1, 1, 1]
    assert not list((made.store.root / "unfinished").iterdir())


@pytest.mark.parametrize("by", [KeyboardInterrupt, AskedToLeave])
def test_a_killed_pass_leaves_no_lock_and_goes_on(tmp_path, sweep, monkeypatch, by):
    """And is not taken for one that failed."""
    monkeypatch.setattr("kdsweep.training.checkpoint.SECONDS_BETWEEN_SAVES", 0)
    jobs = [job(0, temperature, epochs=4) for temperature in (1.0, 4.0)]
    made = sweep(jobs)

    def kill(event: object) -> None:
        if isinstance(event, EpochEnded) and (event.role, event.epoch) == ("student", 2):
            raise by

    hardware = Hardware(device="cpu", threads=1, together=32)
    maker = Maker(made.store, made.dataset, hardware, {}, kill, folder=made.folder / "0")
    with pytest.raises(by):
        maker.train(jobs[0])
    assert [len(each) for each in made.passes] == [1, 2]
    assert not made.store.find(jobs[1]["student"].key)
    again = made.run(0)
    assert epochs(again) == [("student", 3), ("student", 4)]
    assert finished(made.run(1)) == [("teacher", True), ("student", False)]
    assert made.record(jobs[1]["student"])["made_by"]["together"] == 2
    assert_as_one_by_one(made, tmp_path / "alone")


def test_networks_of_one_job_train_in_one_pass_too(sweep):
    """Several teachers of one kind, whose student hears them all."""
    teachers = {f"teacher{seed}": make_stage(CNN, seed=seed, **recipe(epochs=1)) for seed in range(3)}
    links = {**teachers, "student": make_stage(MLP, kd_objective(), tuple(teachers.values()), **recipe())}
    made = sweep([links])
    assert finished(made.run(0)) == [(role, False) for role in links]
    assert made.passes == [keys(list(teachers.values())), [links["student"].key]]


def test_the_seconds_of_a_pass_are_shared(sweep):
    """So that a forecast and the curves have what each took."""
    jobs = [job(seed, epochs=3) for seed in range(4)]
    made = sweep(jobs)
    start = time.perf_counter()
    made.run(0)
    took = time.perf_counter() - start
    seconds = [made.record(each["student"])["seconds"] for each in jobs]
    assert 0 < sum(seconds) < took and math.isfinite(max(seconds))
