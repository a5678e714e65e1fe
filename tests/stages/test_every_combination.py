"""Every method with every kind of teacher and of images: an epoch is trained, or a line says why not."""

from collections.abc import Callable
from math import isfinite
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import CONF, composed
from PIL import Image

from kdsweep.config.parse import parse
from kdsweep.errors import ConfigError
from kdsweep.stages.maker import Maker
from kdsweep.stages.prepare import Job, prepare

METHODS = sorted(file.stem for file in (CONF / "method").glob("*.yaml"))
TEACHER = ("teacher=resnet", "teacher.model.depth=8")
UNLABELED = "dataset.unlabeled={}/unlabeled"
FURTHER = ("+teacher@teachers.second=resnet", "teachers.second.model.depth=8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Twelve images of each of two classes to train on, six to test on."""
    root, random = tmp_path_factory.mktemp("combinations"), np.random.RandomState(0)
    for split, count in (("train", 12), ("test", 6)):
        for label, name in enumerate(("cats", "dogs")):
            (root / "images" / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.randint(0, 120, (16, 16, 3)).astype(np.uint8)
                pixels[8 * label : 8 * label + 8] += 100
                Image.fromarray(pixels).save(root / "images" / split / name / f"{number}.png")
    (root / "unlabeled").mkdir()
    for number in range(10):
        pixels = random.randint(0, 220, (16, 16, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(root / "unlabeled" / f"{number}.png")
    return root


def prepared(folder: Path, *overrides: str) -> Job:
    data = ("dataset=image_folder", f"dataset.root={folder}/images", "dataset.image_size=16")
    small = ("student=resnet", "student.model.depth=8", "training.epochs=1", "training.batch_size=8")
    where = (
        f"store={folder}/store",
        "hardware.device=cpu",
        "+hardware.threads=1",
        "dataset.val_fraction=0.2",
    )
    return prepare(parse(composed(*data, *small, *where, *overrides)))


def trained(folder: Path, *overrides: str) -> Maker:
    job = prepared(folder, *overrides)
    maker = Maker(job.store, job.dataset, job.config.hardware, job.initial, lambda event: None)
    maker.train(job.plan.links())
    return maker


@pytest.fixture(scope="module")
def files(folder: Path) -> Path:
    """What the trained teacher says of all images, and its network as another program has it."""
    overrides = (*TEACHER, UNLABELED.format(folder))
    job, maker = prepared(folder, *overrides), trained(folder, *overrides)
    teacher = job.plan.chain["teacher"]
    splits = job.dataset.splits
    names = [name for split in splits.values() for name in split.names]
    for what in ("logits", "embedding"):
        outputs = torch.cat([maker.answers.outputs(teacher, split, what) for split in splits])
        np.savez(folder / f"{what}.npz", names=np.array(names), outputs=outputs.numpy())
    network = maker.answers.network(teacher)
    torch.jit.trace(network, torch.rand(2, 3, 16, 16)).save(str(folder / "teacher.pt"))
    return folder


KINDS: dict[str, Callable[[Path], tuple[str, ...]]] = {
    "usual": lambda files: TEACHER,
    "several": lambda files: (*TEACHER, *FURTHER),
    "averaged": lambda files: (*TEACHER, *FURTHER, "chain.average=probabilities"),
    "outputs": lambda files: ("teacher=outputs", f"teacher.weights={files}/logits.npz"),
    "embeddings": lambda files: (
        *("teacher=outputs", f"teacher.weights={files}/embedding.npz", "teacher.gives=embedding"),
    ),
    "exported": lambda files: ("teacher=exported", f"teacher.weights={files}/teacher.pt"),
    "headless": lambda files: (*stored(files), "teacher.gives=embedding"),
    "mapped": lambda files: (*stored(files), "teacher.classes=[dogs,cats]"),
}


def stored(files: Path) -> tuple[str, ...]:
    """The trained teacher's weights, as a file that names no classes."""
    key = prepared(files, *TEACHER).plan.chain["teacher"].key
    weights = files / "weights.pt"
    if not weights.exists():
        from safetensors.torch import load_file

        torch.save(load_file(files / "store" / key / "weights.safetensors"), weights)
    return (*TEACHER, f"teacher.weights={weights}", "teacher.training.epochs=0")


IMAGES: dict[str, Callable[[Path], tuple[str, ...]]] = {
    "mixed": lambda files: ("dataset.augment.mixup=0.2", "dataset.augment.cutmix=1"),
    "unlabeled": lambda files: (UNLABELED.format(files),),
    "half unlabeled": lambda files: (UNLABELED.format(files), "dataset.unlabeled_share=0.5"),
    "only unlabeled": lambda files: (UNLABELED.format(files), "dataset.unlabeled_share=1"),
    "mixed and unlabeled": lambda files: (UNLABELED.format(files), "dataset.augment.mixup=0.2"),
    "balanced": lambda files: ("training.sampling=balanced", "training.ema=0.9", "training.clip_norm=1"),
}


def trains_or_says_why_not(folder: Path, *overrides: str) -> bool:
    """Whether an epoch was trained; else a line said why not."""
    try:
        job = prepared(folder, *overrides)
    except ConfigError as error:
        assert "\n" not in str(error), error
        return False
    maker = Maker(job.store, job.dataset, job.config.hardware, job.initial, lambda event: None)
    assert isfinite(maker.train(job.plan.links())["student"].history[0]["train/loss"])
    return True


# of each kind, one method that works and, where there is one, another that is refused
EXAMPLES = [
    *(("kd", kind) for kind in KINDS),
    *(("at", kind) for kind in ("several", "averaged", "exported", "outputs", "headless", "mapped")),
    *(("crd", kind) for kind in ("several", "embeddings", "headless", "exported")),
    *(("simkd", kind) for kind in ("several", "mapped", "headless", "outputs")),
    *(("srrl", kind) for kind in ("outputs", "headless", "mapped", "averaged")),
]
WORKS = {"kd": {"usual", "several", "averaged", "outputs", "exported", "mapped"}}
WORKS |= {"at": {"several", "headless", "mapped"}, "crd": {"several", "embeddings", "headless"}}
WORKS |= {"simkd": set(), "srrl": set()}


@pytest.mark.parametrize(("method", "kind"), EXAMPLES)
def test_an_epoch_is_trained_or_a_line_says_why_not(files, method, kind):
    if kind in WORKS[method]:
        trained(files, f"method={method}", *KINDS[kind](files))
    else:
        with pytest.raises(ConfigError) as found:
            prepared(files, f"method={method}", *KINDS[kind](files))
        assert "\n" not in str(found.value), found.value


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", METHODS)
def test_of_all_methods_too(files, method, kind):
    assert trains_or_says_why_not(files, f"method={method}", *KINDS[kind](files)) or kind != "usual"


@pytest.mark.parametrize("images", IMAGES)
@pytest.mark.parametrize("method", ["kd", "dkd", "crd"])
def test_of_every_kind_of_images(files, method, images):
    trains_or_says_why_not(files, f"method={method}", *TEACHER, *IMAGES[images](files))


@pytest.mark.long
@pytest.mark.parametrize("images", IMAGES)
@pytest.mark.parametrize("method", METHODS)
def test_of_all_methods_and_every_kind_of_images(files, method, images):
    trains_or_says_why_not(files, f"method={method}", *TEACHER, *IMAGES[images](files))


@pytest.mark.long
@pytest.mark.parametrize("images", IMAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_of_every_kind_of_teacher_and_of_images(files, kind, images):
    methods = {"embeddings": "feature_cosine", "headless": "feature_cosine"}
    method = methods.get(kind, "kd")
    trains_or_says_why_not(files, f"method={method}", "alpha=0", *KINDS[kind](files), *IMAGES[images](files))


def test_a_student_of_a_file_of_outputs_is_that_of_the_network_that_made_it(files):
    """The same logits, the same bits."""
    students = []
    for kind in ("usual", "outputs"):
        overrides = ("method=kd", *KINDS[kind](files))
        maker, job = trained(files, *overrides), prepared(files, *overrides)
        students.append(maker.answers.network(job.plan.chain["student"]).state_dict())
    assert all(torch.equal(value, students[1][name]) for name, value in students[0].items())


def test_a_file_that_lacks_the_unlabelled_images_is_refused_before_anything_is_trained(files):
    with np.load(files / "logits.npz") as whole:
        labelled = [not name.startswith("unlabeled") for name in whole["names"]]
        np.savez(files / "labelled.npz", names=whole["names"][labelled], outputs=whole["outputs"][labelled])
    teacher = ("teacher=outputs", f"teacher.weights={files}/labelled.npz")
    trained(files, *teacher)
    with pytest.raises(ConfigError, match=r"^teacher\.weights=.*says nothing of 10 of 10 images: unl"):
        prepared(files, *teacher, UNLABELED.format(files))


def test_a_mapped_teacher_gives_the_logits_of_the_data_sets_classes(files):
    maker, job = trained(files, *KINDS["mapped"](files)), prepared(files, *KINDS["mapped"](files))
    mapped = maker.answers.outputs(job.plan.chain["teacher"], "test", "logits")
    plain = maker.answers.outputs(prepared(files, *TEACHER).plan.chain["teacher"], "test", "logits")
    torch.testing.assert_close(mapped, plain[:, [1, 0]])
