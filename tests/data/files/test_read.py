"""Data sets of image files: how they are found, decoded, kept and split."""

import csv
import io
import logging
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from image_files import (
    COMMON,
    FOLDERS,
    SIZE,
    colour,
    encoded,
    faults,
    numbers,
    write_folder,
    write_image,
    write_splits,
)
from PIL import ExifTags, Image, ImageOps
from torchvision import transforms

from kdsweep.config import ImageFolder
from kdsweep.data.dataset import load
from kdsweep.data.files import decode, pixels
from kdsweep.data.files.decode import Look
from kdsweep.errors import DataError
from kdsweep.store.store import Store

MHIST = {
    "source": "image_csv", "csv": "annotations.csv", "images": "images", "image_column": "Image Name",
    "label_column": "Majority Vote Label", "partition_column": "Partition",
}  # fmt: skip
VOTES = "Number of Annotators who Selected SSA (Out of 7)"


@pytest.fixture
def no_decoding(monkeypatch):
    def fail(*arguments: object) -> None:
        raise AssertionError("decoded again")

    return lambda: monkeypatch.setattr(decode, "decode", fail)


# layouts


def test_a_folder_per_split(root, read):
    write_splits(root, train=4, val=2, test=3)
    data = read()
    assert data.classes == ("ant", "bee")
    assert sorted(numbers(data.train)) == list(range(8))
    assert sorted(numbers(data.val)) == list(range(100, 104))
    assert sorted(numbers(data.test)) == list(range(200, 206))
    assert [label for _, label in sorted(zip(numbers(data.train), data.train.labels, strict=True))] == [
        1, 1, 1, 1, 0, 0, 0, 0,
    ]  # fmt: skip
    assert data.shape == (3, SIZE, SIZE)
    assert data.positive == 1


def test_without_a_folder_of_its_own_val_is_drawn_from_the_training_images(root, read):
    write_splits(root, train=8, test=3)
    data = read()
    assert sorted(numbers(data.train) + numbers(data.val)) == list(range(16))
    assert np.bincount(data.val.labels).tolist() == [2, 2]


def test_no_val_is_drawn_by_a_fraction_of_0_but_a_folder_of_its_own_stays(root, read, tmp_path):
    write_splits(root, train=8, test=3)
    data = read(val_fraction=0)
    assert sorted(numbers(data.train)) == list(range(16)) and data.val is None
    write_splits(tmp_path / "own", train=4, val=2, test=3)
    assert sorted(numbers(read(tmp_path / "own", val_fraction=0).val)) == list(range(100, 104))


def test_other_names_of_folders(root, read):
    write_splits(root, Train=8, val=3)
    data = read(train_folder="Train", test_folder="val", val_folder="none")
    assert sorted(numbers(data.test)) == list(range(100, 106))
    assert len(data.val.labels) == 4


def test_classes_right_below_the_root_are_split_by_the_seed(root, read):
    write_folder(root, {"a": 40, "b": 20, "c": 20})
    first, again, other = read(), read(), read(split_seed=1)
    for data in (first, other):
        assert np.bincount(data.test.labels).tolist() == [10, 5, 5], "a quarter of all"
        assert np.bincount(data.val.labels).sum() == 15, "a quarter of the rest"
        assert sorted(numbers(data.train) + numbers(data.val) + numbers(data.test)) == list(range(80))
    assert numbers(first.test) == numbers(again.test) != numbers(other.test)
    assert numbers(first.val) == numbers(again.val)
    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_images_lie_at_any_depth_and_hidden_or_other_files_are_ignored(root, read):
    write_splits(root, train=4, test=2)
    write_image(root / "train" / "bee" / "garden" / "hive" / "a.JPEG", 50, format="jpeg")
    (root / "train" / "bee" / ".DS_Store.png").write_text("hidden")
    write_image(root / "train" / "bee" / ".cache" / "b.png", 60)
    (root / "train" / "bee" / "Thumbs.db").write_text("no image")
    (root / "train" / ".ipynb_checkpoints").mkdir()
    data = read()
    assert len(data.train.labels) + len(data.val.labels) == 9


def test_images_come_in_the_order_of_their_content(root, read, tmp_path):
    write_folder(root / "train", {"a": 30, "b": 30})
    write_folder(root / "test", {"a": 2, "b": 2}, first=100)
    data = read(train_limit=20)
    drawn = sorted(numbers(data.train) + numbers(data.val))
    assert drawn != list(range(20))
    assert 4 <= sum(number >= 30 for number in drawn) <= 16, "of both classes"
    renamed = tmp_path / "renamed"
    for file in sorted((root / "train").rglob("*.png")):
        target = renamed / "train" / file.parent.name / f"{hash(file.name)}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    shutil.copytree(root / "test", renamed / "test")
    other = read(renamed, train_limit=20)
    assert sorted(numbers(other.train) + numbers(other.val)) == drawn, "wherever they lie"
    assert other.fingerprint == data.fingerprint


def test_one_image_in_two_classes_is_decoded_once(root, read):
    write_splits(root, train=4, test=2)
    shutil.copy(root / "train" / "bee" / "000.png", root / "train" / "ant" / "copy.png")
    data = read()
    assert len(data.train.source) == 12
    assert len(data.train.labels) + len(data.val.labels) == 9


# faults of folders


def test_a_missing_or_empty_root_says_what_is_expected(root, read):
    missing = faults(read)
    root.mkdir()
    empty = faults(read)
    assert f"dataset.root={root}: no such folder" in missing
    assert f"dataset.root={root}: holds no folders" in empty
    for message in (missing, empty):
        assert f"Expected in {root}: train/, test/ and perhaps val/" in message


def test_classes_without_images_are_listed(root, read):
    write_splits(root, train=4, test=2)
    (root / "train" / "wasp").mkdir()
    (root / "train" / "wasp" / "readme.txt").write_text("no image")
    message = faults(read)
    assert "1 of 3 class folders hold no images" in message
    assert "train/wasp: 0 images, 1 other files" in message


@pytest.mark.parametrize("lacking", ["train", "val", "test"])
def test_a_class_missing_in_a_split_is_told_with_counts(root, read, lacking):
    write_splits(root, train=4, val=3, test=2)
    shutil.rmtree(root / lacking / "bee")
    counts = {"train": 4, "val": 3, "test": 2, lacking: 0}
    message = faults(read)
    assert "1 of 2 classes lack readable images" in message
    assert f"bee: train {counts['train']}, val {counts['val']}, test {counts['test']}" in message


def test_one_class_is_none(root, read):
    write_folder(root / "archive", {"a": 4, "b": 4})
    assert (
        "only one class, archive, with 8 images; at least two are needed (perhaps the root should be a folder"
        in faults(read)
    )


def test_a_missing_test_folder_is_told(root, read):
    write_splits(root, train=4)
    assert "has train/ but no test/" in faults(read)
    write_splits(root, train=4, val=2)
    message = faults(read)
    assert "dataset.test_folder=val dataset.val_folder=none" in message
    assert len(read(test_folder="val", val_folder="none").test.labels) == 4


def test_a_misnamed_training_folder_makes_no_classes_of_splits(root, read):
    write_splits(root, Lessons=4, Test=4)
    message = faults(read)
    assert "has Test but no train" in message and "Lessons, Test" in message


def test_a_folder_serves_one_split(root, read):
    write_splits(root, train=4, val=2)
    assert "dataset.val_folder=val, dataset.test_folder=val" in faults(read, test_folder="val")


def test_fractions_that_leave_nothing_are_refused(root, read):
    write_folder(root, {"a": 2, "b": 2})
    assert "dataset.test_fraction=0.01 of 4 images leaves 0 for testing" in faults(read, test_fraction=0.01)
    assert "dataset.val_fraction=0.01 of 3 training images" in faults(read, val_fraction=0.01)


# tables


def write_table(
    root: Path, rows: list[dict[str, object]], encoding: str = "utf-8", images: bool = True
) -> None:
    """A table of MHIST's form and, with `images`, the images that it names."""
    root.mkdir(exist_ok=True)
    with (root / "annotations.csv").open("w", encoding=encoding, newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    for number, row in enumerate(rows if images else []):
        write_image(root / "images" / str(row["Image Name"]), number)


def mhist(train: int = 8, test: int = 4, **changes: object) -> list[dict[str, object]]:
    return [
        {
            "Image Name": f"MHIST_{number:03}.png", "Majority Vote Label": ("SSA", "HP")[number % 2],
            VOTES: 5, "Partition": "train" if number < train else "test", **changes,
        } for number in range(train + test)
    ]  # fmt: skip


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_mhist(root, read, encoding):
    write_table(root, mhist(), encoding)
    data = read(**MHIST, positive_class="SSA")
    assert data.classes == ("HP", "SSA") and data.positive == 1
    assert sorted(numbers(data.train) + numbers(data.val)) == list(range(8))
    assert sorted(numbers(data.test)) == list(range(8, 12))
    for split in (data.train, data.val, data.test):
        assert [number % 2 for number in numbers(split)] == [1 - label for label in split.labels]
    assert read(**MHIST, positive_class="HP").positive == 0
    with pytest.raises(DataError, match=r"positive_class=ssa: no such class; allowed: HP, SSA"):
        read(**MHIST, positive_class="ssa")


def test_partitions_of_any_case_with_val(root, read):
    rows = mhist(12, 4)
    for row, partition in zip(rows, ["Train", "TRAIN", "train", "train", "Val", "val"], strict=False):
        row["Partition"] = partition
    write_table(root, rows)
    data = read(**MHIST)
    assert sorted(numbers(data.val)) == [4, 5]
    assert len(data.train.labels) == 10 and len(data.test.labels) == 4


def test_without_partitions_splits_are_drawn(root, read):
    write_table(root, mhist(24, 16))
    data, again = (read(**{**MHIST, "partition_column": None}) for _ in range(2))
    assert np.bincount(data.test.labels).tolist() == [5, 5]
    assert sum(np.bincount(data.val.labels)) == 8
    assert numbers(data.test) == numbers(again.test)


def test_a_missing_table_or_folder_is_told(root, read):
    root.mkdir()
    assert "the file annotations.csv (dataset.csv) and the folder images (dataset.images)" in faults(
        read, **MHIST
    )


def test_an_unknown_column_is_told_with_those_there(root, read):
    write_table(root, mhist())
    message = faults(read, **{**MHIST, "label_column": "label"})
    assert "dataset.label_column=label" in message
    assert f"its columns: Image Name, Majority Vote Label, {VOTES}, Partition" in message


def test_missing_files_are_counted_and_named(root, read):
    write_table(root, mhist(20, 4))
    for file in sorted((root / "images").iterdir())[:13]:
        file.unlink()
    message = faults(read, **MHIST)
    assert "13 of its 24 images are missing" in message
    assert "images/MHIST_009.png" in message and "MHIST_010" not in message and "and 3 more" in message


def test_files_without_a_row_are_told(root, read, caplog):
    write_table(root, mhist())
    write_image(root / "images" / "extra.png", 99)
    (root / "images" / "notes.txt").write_text("no image")
    with caplog.at_level(logging.WARNING):
        data = read(**MHIST)
    assert "1 images in" in caplog.text and "have no row" in caplog.text
    assert 99 not in numbers(data.train) + numbers(data.val) + numbers(data.test)


def test_contradicting_rows_are_refused_and_repeated_ones_are_one(root, read):
    rows = mhist()
    write_table(root, rows)
    write_table(root, [*rows, rows[0]], images=False)
    data = read(**MHIST)
    assert len(data.train.labels) + len(data.val.labels) == 8
    write_table(root, [*rows, {**rows[0], "Majority Vote Label": "HP"}], images=False)
    message = faults(read, **MHIST)
    assert "1 images have rows that differ" in message
    assert "images/MHIST_000.png: SSA train, then HP train" in message


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"Partition": "held out"}, "line 2: Partition is held out; allowed: train, training, val, valid"),
        ({"Partition": "train"}, "Partition has no row with test"),
        ({"Majority Vote Label": " "}, "line 2: no value in Majority Vote Label"),
        ({"Majority Vote Label": "HP"}, "one class, HP, with 12 images"),
    ],
)
def test_faults_in_rows_are_told(root, read, changes, told):
    write_table(root, mhist(**changes))
    assert told in faults(read, **MHIST)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "its columns: none"),
        (b"Image Name,Majority Vote Label,Partition\n", "has no rows"),
        (b"Image Name,Majority Vote Label,Partition\n\xff\xfe,a,train\n", "is not UTF-8"),
        (b'Image Name,Majority Vote Label,Partition\n"a.png" b,a,train\n', "cannot be read as CSV"),
    ],
)
def test_what_is_no_table_is_told(root, read, content, told):
    write_table(root, mhist())
    (root / "annotations.csv").write_bytes(content)
    assert told in faults(read, **MHIST)


# decoding


def test_every_mode_becomes_rgb():
    plain = Image.new("RGB", (6, 6), (200, 100, 50))
    assert colour(plain) == [200, 100, 50]
    assert colour(Image.new("L", (6, 6), 90)) == [90, 90, 90]
    assert colour(Image.new("1", (6, 6), 1)) == [255, 255, 255]
    assert colour(Image.new("LA", (6, 6), (90, 255))) == [90, 90, 90]
    assert colour(Image.new("RGBA", (6, 6), (200, 100, 50, 255))) == [200, 100, 50]
    assert colour(plain.quantize(4)) == pytest.approx([200, 100, 50], abs=4)
    assert colour(plain, "gif") == pytest.approx([200, 100, 50], abs=4)
    assert colour(Image.new("CMYK", (6, 6), (0, 255, 255, 0)), "tiff") == pytest.approx([255, 0, 0], abs=4)
    assert colour(plain.convert("YCbCr"), "jpeg", quality=100) == pytest.approx([200, 100, 50], abs=4)
    opaque = Image.new("P", (6, 6), 1)
    opaque.putpalette([0, 0, 0, 200, 100, 50])
    assert colour(opaque, transparency=0) == [200, 100, 50]


@pytest.mark.parametrize("form", ["png", "tiff", "ppm"])
def test_sixteen_bits_are_scaled_and_not_clipped(form):
    for value, expected in ((0, 0), (257 * 100, 100), (257 * 100 + 200, 101), (65535, 255)):
        image = Image.fromarray(np.full((6, 6), value, np.uint16))
        assert colour(image, form) == [expected] * 3


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_pixels_without_a_known_range_are_unreadable(kind):
    with pytest.raises(ValueError, match="32 bits, whose range is unknown"):
        colour(Image.fromarray(np.ones((6, 6), kind)), "tiff")


@pytest.mark.parametrize("form", ["jpeg", "png", "tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_as_pillow_does_it(form, orientation):
    quarters = np.kron([[220, 120], [60, 10]], np.ones((8, 8))).astype(np.uint8)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    content = encoded(Image.fromarray(quarters), form, exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))
    np.testing.assert_allclose(
        decode.decode(content, Look(16, "squash")).pixels[0].astype(int), expected, atol=6
    )
    assert (abs(expected.astype(int) - quarters).max() > 20) == (orientation > 1)


def test_garbled_exif_does_no_harm():
    content = encoded(Image.new("RGB", (6, 6), (200, 100, 50)), exif=b"Exif\0\0no tiff at all")
    with pytest.raises(SyntaxError), Image.open(io.BytesIO(content)) as image:
        image.getexif()
    assert decode.decode(content, Look(4, "squash")).pixels[:, 0, 0].tolist() == [200, 100, 50]


@pytest.mark.parametrize("size", [(40, 40), (61, 40), (40, 97), (5, 3), (31, 300)])
@pytest.mark.parametrize("resize", ["squash", "crop"])
def test_resizing_is_torchvisions(size, resize):
    width, height = size
    image = Image.fromarray(np.random.RandomState(0).randint(0, 256, (height, width, 3)).astype(np.uint8))
    bicubic = transforms.InterpolationMode.BICUBIC
    steps = {
        "squash": [transforms.Resize((16, 16), bicubic)],
        "crop": [transforms.Resize(16, bicubic), transforms.CenterCrop(16)],
    }
    expected = np.asarray(transforms.Compose(steps[resize])(image)).transpose(2, 0, 1)
    ours = decode.decode(encoded(image), Look(16, resize)).pixels
    np.testing.assert_allclose(ours.astype(int), expected, atol=1)


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 50), st.sampled_from(["squash", "crop"]))
def test_images_of_all_shapes_become_squares(width, height, size, resize):
    content = encoded(Image.new("RGB", (width, height), (200, 100, 50)))
    square = decode.decode(content, Look(size, resize)).pixels
    assert square.shape == (3, size, size)
    assert (square == np.array([200, 100, 50])[:, None, None]).all()


def test_crop_of_a_line_needs_no_memory_for_its_length():
    image = Image.new("RGB", (30000, 1), (200, 100, 50))
    assert (decode.decode(encoded(image), Look(64, "crop")).pixels[:, 5, 5] == [200, 100, 50]).all()


# unreadable files


def corrupt(root: Path) -> None:
    """Three unreadable files among the bees for training."""
    noise = np.random.RandomState(0).randint(0, 256, (64, 64, 3)).astype(np.uint8)
    folder = root / "train" / "bee"
    (folder / "cut.jpg").write_bytes(encoded(Image.fromarray(noise), "jpeg")[:1500])
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.jpg").write_text("no image at all")


def test_unreadable_files_are_refused_by_name(root, read):
    write_splits(root, train=4, test=2)
    corrupt(root)
    message = faults(read)
    assert "3 of 15 images cannot be read" in message
    assert "train/bee/cut.jpg: image file is truncated" in message
    assert "train/bee/empty.png: empty file" in message
    assert "train/bee/text.jpg: not an image" in message
    assert "dataset.on_corrupt=skip leaves them out" in message
    for number in range(20):
        (root / "train" / "bee" / f"x{number:02}.png").write_text(f"no image {number}")
    message = faults(read)
    assert "23 of 35" in message and "and 13 more" in message
    assert len(message.splitlines()) == 13


def test_skipped_files_are_as_if_they_were_not_there(root, read, caplog):
    write_folder(root, {"bee": 12, "ant": 12})
    without = read()
    for name in ("005b.png", "zz.jpg"):
        (root / "bee" / name).write_text(f"no image {name}")
    with caplog.at_level(logging.WARNING):
        data = read(on_corrupt="skip")
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1 and "2 of 26 images cannot be read" in warnings[0].getMessage()
    assert numbers(data.train) == numbers(without.train) and numbers(data.test) == numbers(without.test)
    assert data.fingerprint == without.fingerprint
    assert data.test_fingerprint == without.test_fingerprint


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_class_left_without_images_is_told(root, read, split):
    write_splits(root, train=3, test=2)
    for file in (root / split / "bee").iterdir():
        file.write_text(f"no image {file.name}")
    counts = {"train": 3, "test": 2, split: 0}
    told = f"bee: train {counts['train']}, test {counts['test']}"
    assert told in faults(read, on_corrupt="skip")


def test_a_split_left_without_images_is_told(root, read):
    write_splits(root, train=3, test=2)
    for file in (root / "test").rglob("*.png"):
        file.write_text(f"no image {file}")
    message = faults(read, on_corrupt="skip")
    assert "ant: train 3, test 0" in message and "bee: train 3, test 0" in message


def test_a_decompression_bomb_is_unreadable(root, read, monkeypatch):
    write_splits(root, train=4, test=2)
    write_image(root / "train" / "bee" / "bomb.png", 50, size=(60, 60))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    message = faults(read)
    assert "1 of 13 images cannot be read" in message and "bomb.png" in message and "3600 pixels" in message


# the store


def test_images_are_memory_mapped_and_shared(root, read):
    write_splits(root, train=6, val=2, test=2)
    data = read(normalize="standard")
    assert all(isinstance(split.source, np.memmap) for split in (data.train, data.val, data.test))
    assert len(data.train.source) == 20
    assert type(data.train.images) is np.ndarray
    pixels = data.train.images / 255
    np.testing.assert_allclose(data.mean, pixels.mean(axis=(0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(data.std, pixels.std(axis=(0, 2, 3)), rtol=1e-4, atol=1e-6)
    torch.tensor(data.train.images)


def test_kept_images_are_neither_read_nor_decoded_again(root, read, no_decoding, monkeypatch, capsys):
    write_splits(root, train=4, test=2)
    corrupt(root)
    first = read(on_corrupt="skip")
    assert f"decoding 15 images of {root}, once" in capsys.readouterr().out
    no_decoding()
    monkeypatch.setattr(pixels, "sha256", lambda file: pytest.fail("read again"))
    again = read(on_corrupt="skip")
    assert (first.train.images == again.train.images).all()
    assert first.fingerprint == again.fingerprint
    assert capsys.readouterr().out == ""
    assert "3 of 15 images" in faults(read)


def test_touched_and_moved_files_are_not_decoded_again(root, read, no_decoding, tmp_path):
    write_splits(root, train=4, test=2)
    first = read()
    no_decoding()
    os.utime(root / "train" / "bee" / "000.png", (1, 1))
    assert read().fingerprint == first.fingerprint
    root.rename(tmp_path / "elsewhere")
    moved = read(tmp_path / "elsewhere")
    assert moved.fingerprint == first.fingerprint
    assert (moved.test.images == first.test.images).all()


def test_changed_files_are_decoded_again(root, read):
    write_splits(root, train=4, test=2)
    first = read()
    write_image(root / "train" / "bee" / "000.png", 250)
    changed = read()
    assert 250 in numbers(changed.train) + numbers(changed.val)
    assert changed.fingerprint != first.fingerprint
    assert changed.test_fingerprint == first.test_fingerprint


@pytest.mark.parametrize("drawn", [True, False])
def test_editing_a_test_image_keeps_the_training_fingerprint(root, read, drawn):
    if drawn:
        write_folder(root, {"ant": 12, "bee": 12})
    else:
        write_splits(root, train=4, test=2)
    first = read()
    number = numbers(first.test)[0]
    (edited,) = root.rglob(f"{number:03}.png")
    write_image(edited, 250)
    second = read()
    assert 250 in numbers(second.test)
    assert second.fingerprint == first.fingerprint
    assert numbers(second.train) == numbers(first.train) and numbers(second.val) == numbers(first.val)
    assert second.test_fingerprint != first.test_fingerprint


def test_fingerprints_tell_classes_sizes_and_own_validation_images(root, read):
    write_splits(root, train=4, val=2, test=2)
    first = read()
    told = {first.fingerprint}
    told.add(read(resize="crop").fingerprint)
    told.add(read(image_size=4).fingerprint)
    write_image(root / "val" / "bee" / "100.png", 255)
    told.add(read().fingerprint)
    for split in ("train", "val", "test"):
        (root / split / "bee").rename(root / split / "wasp")
    told.add(read().fingerprint)
    assert len(told) == 5
    assert read(val_fraction=0.5, train_limit=3).fingerprint in told, "limits and fractions are not in it"


def test_files_that_change_behind_the_listing_are_told(root, read):
    write_splits(root, train=4, test=2)
    read()
    file = root / "train" / "bee" / "000.png"
    time_of_old, size = file.stat().st_mtime_ns, file.stat().st_size
    file.write_bytes(b"x" * size)
    os.utime(file, ns=(time_of_old, time_of_old))
    assert f"{file}: its content changed" in faults(read, image_size=5)
    os.utime(file)
    assert "cannot be read" in faults(read, image_size=5)


def test_a_full_disk_is_told_before_anything_is_decoded(root, read, monkeypatch):
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    write_splits(root, train=4, test=2)
    monkeypatch.setattr(os, "posix_fallocate", full)
    assert "has no room for 0.0 GB of decoded images" in faults(read)


def test_an_unreachable_file_is_named(root, read):
    write_splits(root, train=4, test=2)
    (root / "train" / "bee" / "gone.png").symlink_to(root / "nowhere.png")
    message = faults(read)
    assert "1 of 13 images cannot be read" in message
    assert "train/bee/gone.png: No such file or directory" in message


def test_several_threads_decode_as_one(root, read, tmp_path, monkeypatch):
    write_splits(root, train=20, test=5)
    corrupt(root)
    monkeypatch.setattr(pixels, "cores", lambda: 1)
    alone = read(on_corrupt="skip")
    monkeypatch.setattr(pixels, "cores", lambda: 4)
    shutil.rmtree(tmp_path / "store")
    together = read(on_corrupt="skip")
    assert together.fingerprint == alone.fingerprint
    assert (together.train.source == alone.train.source).all()


def test_jobs_of_a_parallel_sweep_decode_once(root, tmp_path, capfd):
    """In joblib's workers."""
    write_folder(root, {"bee": 300, "ant": 300})
    recipes = [ImageFolder(**{**COMMON, **FOLDERS, "root": str(root), "split_seed": seed}) for seed in (0, 1)]
    store = Store(tmp_path / "store")
    sets = joblib.Parallel(n_jobs=2)(joblib.delayed(load)(recipe, store) for recipe in recipes)
    joblib.externals.loky.get_reusable_executor().shutdown()
    assert sets[0].fingerprint != sets[1].fingerprint
    assert capfd.readouterr().out.count("decoding 600 images") == 1


def test_an_interrupt_leaves_no_entry(root, tmp_path):
    write_splits(root, train=1, test=1)
    large = encoded(Image.new("RGB", (3000, 3000), (9, 9, 9)), compress_level=1)
    for number in range(600):  # bytes after an image are no part of it
        (root / "train" / "bee" / f"{number}.png").write_bytes(large + b"%d" % number)
    store = tmp_path / "store"
    (tmp_path / "job.py").write_text(
        textwrap.dedent(f"""
        from kdsweep.config import ImageFolder
        from kdsweep.data.dataset import load
        from kdsweep.store.store import Store

        if __name__ == "__main__":
            recipe = { ({**COMMON, **FOLDERS, "augment": {}, "root": str(root)})!r}
            load(ImageFolder(**recipe), Store({str(store)!r}))
        """)
    )
    job = subprocess.Popen(
        [sys.executable, str(tmp_path / "job.py")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert job.stdout is not None
    while "decoding" not in job.stdout.readline():
        assert job.poll() is None
    time.sleep(0.5)
    os.killpg(job.pid, signal.SIGINT)  # as a terminal does it
    _, errors = job.communicate(timeout=20)
    assert errors.count("KeyboardInterrupt") == 1, errors
    assert not list(store.rglob("images.npy"))
