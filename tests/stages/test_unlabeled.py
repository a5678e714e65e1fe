"""Who learns from images without labels, whose key that changes, and what is refused."""

import json
import re
from dataclasses import replace

import pytest
from helpers import Command, composed, make_stage, mistakes, runs, write_images
from planning import KNOWN, keys
from zoo_examples import METHODS, method

from kdsweep.config import Hardware
from kdsweep.config.code import takes
from kdsweep.config.parse import parse
from kdsweep.errors import ConfigError
from kdsweep.methods import needs_labels
from kdsweep.results.result import JobResult
from kdsweep.stages.chains import plan
from kdsweep.stages.estimate import Paces
from kdsweep.store.store import Store

SOME = replace(KNOWN, unlabeled="others", unlabeled_images=9000)
MORE = replace(SOME, unlabeled="more others")
FOLDER = ("dataset=image_folder", "student=small_cnn")


def changed(*overrides: str, known=SOME) -> set[str]:
    """The roles whose keys images without labels change."""
    without, with_some = keys(*FOLDER, *overrides), keys(*FOLDER, *overrides, known=known)
    assert without.keys() == with_some.keys()
    return {role for role in without if without[role] != with_some[role]}


def test_only_a_taught_student_learns_from_them():
    assert changed() == {"student"}
    assert changed("method=scratch") == changed("method=tfkd_reg") == set()
    assert changed("alpha=1") == set(), "then it is the baseline"
    assert keys(*FOLDER, "alpha=1", known=SOME)["student"] == keys(*FOLDER, known=SOME)["scratch"]
    assert changed("student.weights=some", "training.epochs=0", "teacher.training.epochs=9") == set(), (
        "its weights are given"
    )


@pytest.mark.parametrize(
    "chain",
    [
        ("method=ban", "chain_length=3", "teacher=cats_dogs_cnn", "student=cats_dogs_cnn"),
        ("method=takd", "chain_length=2", "student.assistants=[{name: p500, model: {_target_: a.b}}]"),
        ("method=dgkd", "chain_length=2", "student.assistants=[{name: p500, model: {_target_: a.b}}]"),
    ],
)
def test_all_links_after_the_teacher_do(chain):
    found = changed(*chain)
    assert found == keys(*FOLDER, *chain).keys() - {"teacher", "scratch"} and len(found) > 1


@pytest.mark.parametrize("name", [name for name in METHODS if name != "scratch"])
def test_a_method_whose_terms_all_need_labels_does_not(name):
    needing = [needs_labels(takes(term.target)) for term in method(name).terms.values()]
    taught = method(name).has_teacher
    assert changed(f"method={name}") == ({"student"} if taught and not all(needing) else set())
    only = f"method={name}", "dataset.unlabeled_share=1"
    if not taught or not any(needing):
        keys(*FOLDER, *only, known=SOME)
        return
    with pytest.raises(ConfigError, match=r"^dataset.unlabeled_share=1: a batch has no labelled image for "):
        keys(*FOLDER, *only, known=SOME)


def test_their_content_and_their_share_are_in_the_key_but_not_their_path():
    one = keys(*FOLDER, known=SOME)["student"]
    assert keys(*FOLDER, known=MORE)["student"] != one
    assert keys(*FOLDER, "dataset.unlabeled_share=0.5", known=SOME)["student"] != one
    assert keys(*FOLDER, "dataset.unlabeled=anywhere", known=SOME)["student"] == one
    assert keys(*FOLDER, "dataset.unlabeled_share=0.5") == keys(*FOLDER), (
        "without such images it plays no part"
    )


def test_a_batch_may_be_as_large_as_both_kinds_together():
    def size(batch_size: int, *overrides: str) -> tuple[int, ...]:
        overrides = (*FOLDER, f"training.batch_size={batch_size}", *overrides)
        links = plan(parse(composed(*overrides)), "content", SOME).links()
        return tuple(links[role].training.batch_size for role in ("scratch", "student"))

    assert size(5000) == (800, 5000) and size(99999) == (800, 9800)
    assert size(5000, "dataset.unlabeled_share=0.5") == (800, 5000)


def test_what_an_epoch_sees():
    def images(*overrides: str) -> list[int]:
        links = plan(parse(composed(*FOLDER, *overrides)), "content", SOME).links()
        return [links[role].images for role in ("teacher", "scratch", "student")]

    assert images() == [800, 800, 9800]
    # 32 of 64: 9000 in 282 batches, and the 800 of 25 batches eleven times and seven batches
    assert images("dataset.unlabeled_share=0.5") == [800, 800, 9000 + 11 * 800 + 7 * 32]
    assert images("dataset.unlabeled_share=1", "alpha=0") == [800, 800, 9000]


def test_what_has_no_room_is_refused():
    with pytest.raises(ConfigError) as error:
        keys(*FOLDER, "dataset.unlabeled_share=1", known=SOME)
    assert "method.terms.labels, which needs labels; leave it out (alpha=0), or take" in str(error.value)
    keys(*FOLDER, "dataset.unlabeled_share=1", "alpha=0", known=SOME)
    with pytest.raises(ConfigError) as error:
        keys(*FOLDER, "dataset.unlabeled_share=1", "method=fitnet", known=SOME)
    assert re.search(r"\(method\.terms\.labels\.weight=0|alpha=0\)", str(error.value))
    with pytest.raises(ConfigError, match="batch_size=1 has no room for both kinds of images"):
        keys(*FOLDER, "dataset.unlabeled_share=0.5", "training.batch_size=1", known=SOME)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("dataset.unlabeled=more",),
            "dataset.unlabeled=more: needs a data set of image files: dataset=image_folder or "
            "dataset=image_csv; allowed: null",
        ),
        (
            ("dataset=image_folder", "dataset.unlabeled_share=0"),
            "dataset.unlabeled_share=0: must be greater than 0",
        ),
        (
            ("dataset=image_folder", "dataset.unlabeled_share=2"),
            "dataset.unlabeled_share=2: must be less than or equal to 1",
        ),
        (("dataset=image_folder", "dataset.unlabeled=''"), "dataset.unlabeled=: must not be empty"),
    ],
)
def test_mistakes(overrides, message):
    assert mistakes(*overrides) == [message]


def test_the_forecast_knows_how_many_images_an_epoch_has(tmp_path):
    """By the pace of a student alone, which has a tenth of them."""
    alone = replace(make_stage(), images=100)
    store = Store(tmp_path / "store").made()
    (store.root / "one").mkdir()
    record = {"stage": alone.describe(), "seconds": 20, "history": [{}] * 10, "images": 100,
              "made_by": {"threads": 2}}  # fmt: skip
    (store.root / "one" / "stage.json").write_text(json.dumps(record))
    paces = Paces(store, Hardware(device="cpu", threads=2))
    data = {**alone.data, "unlabeled": {"fingerprint": "others", "share": None}}
    assert paces.of(alone).seconds == 2
    assert paces.of(replace(alone, data=data, images=1000, parents=(alone,))).seconds == 20


TINY = (
    "dataset=image_folder", "dataset.root=photos", "dataset.image_size=12", "teacher=resnet",
    "teacher.model.depth=8", "student=cats_dogs_cnn", "teacher.training.epochs=1", "training.epochs=2",
    "training.batch_size=8", "dataset.val_fraction=0.25",
)  # fmt: skip


@pytest.fixture
def photos(tmp_path):
    for split, count in (("train", 8), ("test", 4)):
        for name in ("cat", "human"):  # names of two lengths, which draw two kinds of images
            write_images(tmp_path / "photos" / split / name, count)
    write_images(tmp_path / "photos" / "unlabeled" / "at" / "any" / "depth", 20)
    return tmp_path


@pytest.mark.long
def test_a_sweep_with_and_without_them(kdsweep: Command, photos):
    sweep = (
        "-m",
        *TINY,
        "method=scratch,kd",
        "dataset.unlabeled=null,photos/unlabeled",
        "hydra.sweep.dir=sweep",
    )
    done = kdsweep(*sweep)
    results = JobResult.load_all(photos / "sweep")
    counts = {"train": 12, "val": 4, "test": 8}
    assert [job.dataset["images"] for job in results] == [counts] * 3 + [{**counts, "unlabeled": 20}]
    scratch, also, plain, mixed = (job.networks["student"] for job in results)
    assert scratch.key == also.key == results[3].networks["scratch"].key
    assert len({scratch.key, plain.key, mixed.key}) == 3
    assert results[2].networks["teacher"].key == results[3].networks["teacher"].key
    line = "images: 12 train, 4 val, 8 test, 20 unlabeled"
    assert line in done.stdout and line in (photos / "sweep" / "sweep.txt").read_text()
    page = (photos / "sweep" / "report.html").read_text()
    assert "12 train, 4 val, 8 test, 20 unlabeled images, 2 classes" in page
    inputs = [
        json.loads(each.inputs.dataset_inputs[0].dataset.profile)
        for each in runs(photos)
        if each.inputs.dataset_inputs
    ]
    assert inputs.count({**counts, "unlabeled": 20}) == 1
    # alone, from the same teacher, whose outputs are there
    alone = kdsweep(
        *TINY, "dataset.unlabeled=photos/unlabeled", "dataset.unlabeled_share=1", "alpha=0"
    ).stdout
    assert "trained" in alone and line in alone
    again = kdsweep(*sweep[:-1], "hydra.sweep.dir=again").stdout
    assert again.count("reused") >= 4 and "  trained" not in again


def test_what_goes_wrong_is_a_line(kdsweep: Command, photos):
    unlabeled = "dataset.unlabeled=photos/unlabeled"

    def said(*overrides: str) -> str:
        return kdsweep(*TINY, *overrides, status=1).stderr

    assert "\nkdsweep: dataset.unlabeled=photos/nothing: no such folder" in said(
        "dataset.unlabeled=photos/nothing"
    )
    assert "leave it out (alpha=0)" in said(unlabeled, "dataset.unlabeled_share=1")
    assert "crd: compares the labelled images of a batch" in said(
        unlabeled, "+method/terms=crd", "dataset.unlabeled_share=0.9"
    )
    done = kdsweep(*TINY, unlabeled, "method=dkd", "training.epochs=1", "baseline=false")
    assert "method=dkd: all of its terms need labels, so images without labels play no part" in done.stderr
    assert "unlabeled" not in done.stdout
