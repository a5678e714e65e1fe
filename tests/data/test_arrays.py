"""Reading, limiting, splitting and normalising images."""

import gzip
import pickle
import re
import struct
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdsweep import config
from kdsweep.data import dataset
from kdsweep.data.arrays import IDX_FILES, read_arrays
from kdsweep.data.dataset import Dataset
from kdsweep.data.dataset import load as load_into
from kdsweep.data.split import Split, stratified_split
from kdsweep.errors import DataError
from kdsweep.store.store import Store
from kdsweep.system import progress


@pytest.fixture(autouse=True)
def nothing_cached():
    read_arrays.cache_clear()
    dataset._load.cache_clear()


@pytest.fixture
def load(tmp_path_factory):
    """Loads a recipe, with a store that arrays make no use of."""
    store = Store(tmp_path_factory.mktemp("store"))
    return lambda recipe: load_into(recipe, store)


def recipe(**changes) -> config.Dataset:
    given = {
        "name": "mine", "source": "digits", "root": "data", "train_limit": None, "test_limit": None,
        "val_fraction": 0.2, "split_seed": 0, "positive_class": None, "normalize": "unit",
        "augment": config.Augment(),
    }  # fmt: skip
    return config.ArrayDataset(**{**given, **changes})


def test_the_package_imports_neither_torch_nor_pillow():
    heavy = "import sys, kdsweep.data.dataset; print({'torch', 'PIL'} & sys.modules.keys() or 'none')"
    done = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True)
    assert done.stdout == "none\n"


def write_idx(folder, zipped: bool, train: int = 40, test: int = 20) -> np.ndarray:
    """MNIST's four files with images that tell their number by their first pixel."""
    folder.mkdir(parents=True)
    images = np.random.RandomState(0).randint(0, 255, (train, 28, 28)).astype(np.uint8)
    images[:, 0, 0] = np.arange(train)
    for name, array in zip(
        IDX_FILES, (images, np.arange(train) % 10, images[:test], np.arange(test) % 10), strict=True
    ):
        array = array.astype(np.uint8)
        content = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()
        if zipped:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return images


def test_digits_are_scikit_learns(load):
    from sklearn.datasets import load_digits

    data = load(recipe())
    ours = np.concatenate([data.train.images, data.val.images, data.test.images])[:, 0]
    theirs = np.rint(load_digits().images * 255 / 16).astype(np.uint8)
    assert sorted(map(bytes, ours)) == sorted(map(bytes, theirs))
    assert (len(data.train.labels), len(data.val.labels), len(data.test.labels)) == (725, 181, 891)


def test_no_sheet_of_digits_both_trains_and_tests(load):
    """A sheet begins with 0 to 9, three times; of the eighth, which is tested on, the first 0 is missing."""
    data = load(recipe())
    assert "".join(map(str, data.test.labels)).startswith("123456789" + "0123456789" * 2)
    rows = np.concatenate([data.train.rows, data.val.rows])
    labels = np.concatenate([data.train.labels, data.val.labels])[np.argsort(rows)]
    seven = "".join(map(str, labels))
    assert seven.count("0123456789" * 3) == 7 and seven.startswith("01") and seven.endswith("490898")


def test_fingerprints_of_arrays_stay_as_they_were(load):
    """They are part of what everything trained is kept under."""
    data = load(recipe())
    assert data.fingerprint == "b65b06fdf671a0f07f1ae52f3422fe21"
    assert data.test_fingerprint == "9a9dc6d92211156ba801f91c588f55a5"


def test_splits_share_one_array(load):
    data = load(recipe())
    assert data.train.source is data.val.source
    assert data.shape == (1, 8, 8)
    assert not set(data.train.rows) & set(data.val.rows)


def test_a_data_set_is_loaded_once_for_a_store(load, tmp_path):
    assert load(recipe()) is load(recipe())
    assert load(recipe()) is not load_into(recipe(), Store(tmp_path / "other"))


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
def test_idx_files_raw_and_zipped_are_one_data_set(load, tmp_path, name, folder):
    images = write_idx(tmp_path / "raw" / folder / "raw", zipped=False)
    write_idx(tmp_path / "gz" / folder / "raw", zipped=True)
    raw, zipped = (load(recipe(source=name, root=str(tmp_path / kind))) for kind in ("raw", "gz"))
    assert raw.fingerprint == zipped.fingerprint
    assert raw.test_fingerprint == zipped.test_fingerprint != raw.fingerprint
    assert raw.shape == (1, 28, 28)
    everything = np.concatenate([raw.train.images, raw.val.images])[:, 0]
    assert sorted(map(bytes, everything)) == sorted(map(bytes, images))
    for split in (raw.train, raw.val):
        assert (split.images[:, 0, 0, 0] % 10 == split.labels).all(), "images keep their labels"


CIFAR = {
    "cifar10": (
        "CIFAR10",
        "cifar-10-batches-py",
        [f"data_batch_{i}" for i in range(1, 6)],
        "test_batch",
        "labels",
    ),
    "cifar100": ("CIFAR100", "cifar-100-python", ["train"], "test", "fine_labels"),
}


@pytest.mark.parametrize("source", CIFAR)
def test_cifar_is_read_channels_first_by_its_fine_labels(load, tmp_path, monkeypatch, source):
    from torchvision import datasets

    name, folder, train, test, key = CIFAR[source]
    reader = getattr(datasets, name)
    monkeypatch.setattr(reader, "_check_integrity", lambda self: True)
    meta = {**reader.meta, "md5": None}
    monkeypatch.setattr(reader, "meta", meta)
    (tmp_path / folder).mkdir()
    pixels = np.arange(20 * 3 * 32 * 32, dtype=np.int64).reshape(20, -1) % 251
    (tmp_path / folder / meta["filename"]).write_bytes(
        pickle.dumps({meta["key"]: [f"kind {i}" for i in range(10)]})
    )
    for file in (*train, test):
        content = {"data": pixels.astype(np.uint8), key: [i % 10 for i in range(20)]}
        (tmp_path / folder / file).write_bytes(pickle.dumps({**content, "coarse_labels": [0] * 20}))
    data = load(recipe(source=source, root=str(tmp_path)))
    assert data.shape == (3, 32, 32)
    assert (data.test.images.reshape(20, -1) == pixels).all()
    assert len(data.train.labels) + len(data.val.labels) == 20 * len(train)
    assert data.classes == tuple(f"kind {i}" for i in range(10))
    assert (data.test.labels == np.arange(20) % 10).all()


def test_missing_files_are_named(load, tmp_path, monkeypatch):
    import torchvision.datasets

    def offline(*arguments: object, **options: object) -> None:
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz:\nTried …")

    monkeypatch.setattr(torchvision.datasets, "MNIST", offline)
    with pytest.raises(DataError) as error:
        load(recipe(source="mnist", root=str(tmp_path)))
    message = str(error.value)
    assert f"dataset.root={tmp_path}" in message
    assert all(f"MNIST/raw/{name}" in message for name in IDX_FILES)
    assert len(message.splitlines()) == 2


@pytest.mark.parametrize(
    "damage",
    [b"", b"not idx at all", gzip.compress(b"abc")[:10], gzip.compress(b"a" * 99)[:15] + b"x" * 30],
    ids=["empty", "text", "cut", "garbage"],  # the bytes tell the time, and each test process its own
)
def test_damaged_files_are_named(load, tmp_path, damage):
    folder = tmp_path / "MNIST" / "raw"
    write_idx(folder, zipped=True)
    (folder / f"{IDX_FILES[0]}.gz").write_bytes(damage)
    with pytest.raises(DataError, match=rf"{IDX_FILES[0]}\.gz cannot be read"):
        load(recipe(source="mnist", root=str(tmp_path)))


def test_limits_take_the_first(load, tmp_path):
    images = write_idx(tmp_path / "MNIST" / "raw", zipped=False)
    data = load(recipe(source="mnist", root=str(tmp_path), train_limit=20, test_limit=5))
    both = np.concatenate([data.train.images, data.val.images])[:, 0]
    assert sorted(both[:, 0, 0]) == list(range(20))
    assert (data.test.images[:, 0] == images[:5]).all()


@pytest.mark.parametrize("operation", [{"rand_augment": {"num_ops": 2}}, {"trivial_augment": True}], ids=str)
def test_operations_on_colours_need_one_channel_or_three(load, monkeypatch, operation):
    asked = recipe(augment=config.Augment(**operation))
    assert load(asked).shape[0] == 1
    read = dataset.read_arrays

    def of_four_channels(*given):
        contents = read(*given)
        wide = [
            replace(split, source=split.source.repeat(4, axis=1)) for split in (contents.train, contents.test)
        ]
        return replace(contents, train=wide[0], test=wide[1])

    monkeypatch.setattr(dataset, "read_arrays", of_four_channels)
    dataset._load.cache_clear()
    assert load(recipe()).shape[0] == 4
    with pytest.raises(DataError) as error:
        load(asked)
    (name,) = operation
    assert str(error.value) == (
        f"dataset.augment.{name}: needs images of 1 or 3 channels, and those of mine have 4; leave it out"
    )


def test_a_split_without_images_is_refused(load):
    with pytest.raises(DataError, match=r"dataset\.val_fraction=0\.2 of 1 training images"):
        load(recipe(train_limit=1))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.floats(0.01, 0.99), st.integers(0, 99))
def test_stratified_split(labels, share, seed):
    labels = np.array(labels)
    part, rest = stratified_split(labels, share, seed)
    assert sorted([*part, *rest]) == list(range(len(labels))), "every image once"
    assert len(part) == round(share * len(labels)), "the share of the whole"
    for label in np.unique(labels):
        count = (labels == label).sum()
        assert abs((labels[part] == label).sum() - share * count) <= 1, "and of every class"
    again, _ = stratified_split(labels, share, seed)
    assert (part == again).all()


def test_split_seed_draws_another_validation_split(load):
    first, second = load(recipe()), load(recipe(split_seed=1))
    assert not np.array_equal(first.val.images, second.val.images)
    assert np.array_equal(first.test.images, second.test.images)


def test_standard_normalisation_is_of_the_training_split(load):
    data = load(recipe(normalize="standard"))
    pixels = data.train.images / 255
    np.testing.assert_allclose(data.mean, pixels.mean(axis=(0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(data.std, pixels.std(axis=(0, 2, 3)), rtol=1e-5)


def test_statistics_are_the_same_in_chunks(load, monkeypatch):
    whole = load(recipe(normalize="standard"))
    monkeypatch.setattr(dataset, "CHUNK", 64 * 7)
    dataset._load.cache_clear()
    chunked = load(recipe(normalize="standard"))
    assert (chunked.mean == whole.mean).all() and (chunked.std == whole.std).all()


def test_only_two_classes_have_a_positive_one(load):
    assert load(recipe()).positive is None
    with pytest.raises(
        DataError, match=r"positive_class=3: needs two classes, and mine has 10; allowed: null"
    ):
        load(recipe(positive_class="3"))


def test_a_dataset_can_be_made_without_a_positive_class():
    split = Split(np.zeros((2, 1, 4, 4), np.uint8), np.arange(2), np.arange(2))
    one = np.ones(1, np.float32)
    assert Dataset(split, split, split, ("a", "b"), 0 * one, one, "made", "made").positive is None


def test_a_class_that_a_draw_leaves_out_is_told(load, caplog):
    load(recipe(train_limit=20, test_limit=5))
    assert re.search(r"dataset mine: \d of 10 classes have none of the \d+ val images: ", caplog.text)
    assert re.search(r"have none of the 5 test images: ", caplog.text)


def write_other_idx(folder, side: int = 28, classes: int = 10) -> None:
    """Four files named as MNIST's, of another data set."""
    folder.mkdir(parents=True)
    for name, count in zip(IDX_FILES, (40, 40, 20, 20), strict=True):
        array = np.arange(count) % classes if "labels" in name else np.zeros((count, side, side))
        array = array.astype(np.uint8)
        header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
        (folder / name).write_bytes(header + array.tobytes())


@pytest.mark.parametrize(
    ("name", "folder", "other", "told"),
    [
        ("mnist", "MNIST", {"classes": 26}, "labels up to 25, but there are 10 classes"),
        ("fashion_mnist", "FashionMNIST", {"classes": 26}, "labels up to 25, but there are 10 classes"),
        ("mnist", "MNIST", {"side": 32}, "images of 32 by 32 pixels, not 28 by 28"),
    ],
)
def test_files_of_another_data_set_are_refused(load, tmp_path, name, folder, other, told):
    write_other_idx(tmp_path / folder / "raw", **other)
    with pytest.raises(DataError) as error:
        load(recipe(source=name, root=str(tmp_path)))
    assert told in str(error.value) and "another data set (EMNIST, perhaps)" in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_another_number_of_images_than_mnists_is_said(load, tmp_path, caplog):
    progress.once.cache_clear()
    write_idx(tmp_path / "MNIST" / "raw", zipped=False)
    load(recipe(source="mnist", root=str(tmp_path)))
    assert "has 40 and 20 images, not 60000 and 10000: a part of the data set, or another one" in caplog.text


def test_copies_in_arrays_stay_on_one_side_of_the_drawn_split(load, tmp_path):
    folder = tmp_path / "MNIST" / "raw"
    write_idx(folder, zipped=False, train=40)
    plain = load(recipe(source="mnist", root=str(tmp_path))).fingerprint
    (folder / IDX_FILES[0]).write_bytes(struct.pack(">HBB3I", 0, 8, 3, 40, 28, 28) + b"".join(
        bytes([number // 2]) * 28 * 28 for number in range(40)
    ))  # fmt: skip
    for seed in range(5):
        read_arrays.cache_clear()
        dataset._load.cache_clear()
        data = load(recipe(source="mnist", root=str(tmp_path), split_seed=seed))
        trained, validated = (set(split.images[:, 0, 0, 0].tolist()) for split in (data.train, data.val))
        assert len(trained) + len(validated) == 20 and not trained & validated
        assert len(data.train.labels) + len(data.val.labels) == 40
    assert data.fingerprint != plain


@given(limit=st.integers(1, 906), split_seed=st.integers(0, 9))
def test_without_validation_every_image_trains(tmp_path_factory, limit, split_seed):
    store = Store(tmp_path_factory.getbasetemp() / "store")
    data = load_into(recipe(val_fraction=0, train_limit=limit, split_seed=split_seed), store)
    assert data.train.rows.tolist() == list(range(limit)) and data.val is None
    assert data.splits.keys() == {"train", "test"}
    held_back = load_into(recipe(split_seed=split_seed), store)
    assert data.fingerprint == held_back.fingerprint and len(data.test.labels) == len(held_back.test.labels)


def test_copies_of_images_matter_to_no_split_that_is_not_drawn(load, tmp_path):
    folder = tmp_path / "MNIST" / "raw"
    write_idx(folder, zipped=False, train=40)
    same = struct.pack(">HBB3I", 0, 8, 3, 40, 28, 28) + bytes(40 * 28 * 28)
    (folder / IDX_FILES[0]).write_bytes(same)
    data = load(recipe(source="mnist", root=str(tmp_path), val_fraction=0))
    assert (
        len(data.train.labels) == 40 and data.fingerprint == read_arrays("mnist", str(tmp_path)).fingerprint
    )
