"""Images without labels beside a data set of image files."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from image_files import SIZE, faults, numbers, write_folder, write_image, write_splits
from PIL import Image

from kdsweep.data.files import decode


def write_unlabeled(folder: Path, count: int, first: int = 500) -> str:
    """So many images, every other one in a folder further down."""
    for number in range(first, first + count):
        write_image(folder / ("deep/deeper" if number % 2 else "") / f"{number}.png", number)
    return str(folder)


def same_labeled(one, other) -> None:
    """The labelled part is the same, to the last bit of its fingerprint."""
    assert one.fingerprint == other.fingerprint and one.test_fingerprint == other.test_fingerprint
    assert one.classes == other.classes
    for ours, theirs in ((one.train, other.train), (one.val, other.val), (one.test, other.test)):
        assert np.array_equal(ours.images, theirs.images) and np.array_equal(ours.labels, theirs.labels)


@pytest.mark.parametrize("place", ["../elsewhere", "unlabeled", "train/unlabeled", "train/bee/unlabeled"])
def test_they_may_lie_anywhere(root, read, caplog, place):
    write_splits(root, train=5, test=2)
    plain = read()
    folder = write_unlabeled(root / place, 6)
    data = read(unlabeled=folder)
    same_labeled(plain, data)
    assert sorted(numbers(data.unlabeled)) == list(range(500, 506))
    assert data.unlabeled.labels.tolist() == [-1] * 6
    assert data.unlabeled.images.shape == (6, 3, SIZE, SIZE) and list(data.splits)[-1] == "unlabeled"
    assert "left out" not in caplog.text and plain.unlabeled is None


def test_beside_classes_that_are_right_below_the_root_they_are_no_class(root, read):
    write_folder(root, {"bee": 8, "ant": 8})
    plain = read()
    data = read(unlabeled=write_unlabeled(root / "more", 3))
    same_labeled(plain, data)
    assert sorted(numbers(data.unlabeled)) == [500, 501, 502]


def test_the_path_is_relative_to_the_working_directory_and_may_be_a_link(root, read, tmp_path, monkeypatch):
    write_splits(root, train=5, test=2)
    write_unlabeled(tmp_path / "there", 3)
    (root / "extra").symlink_to(tmp_path / "there")
    monkeypatch.chdir(root)
    direct, linked = read(unlabeled="../there"), read(unlabeled="extra")
    assert sorted(numbers(linked.unlabeled)) == [500, 501, 502]
    assert direct.unlabeled_fingerprint == linked.unlabeled_fingerprint


def test_the_images_of_a_table_that_have_no_row(root, read, caplog):
    for number in range(12):
        write_image(root / "images" / f"{number}.png", number)
    with (root / "labels.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["image", "label", "split"])
        for number in range(8):
            rows.writerow(
                [f"{number}.png", "bee" if number % 2 else "ant", "train" if number < 6 else "test"]
            )
    table = {"source": "image_csv", "csv": "labels.csv", "images": "images", "image_column": "image",
             "label_column": "label", "partition_column": "split"}  # fmt: skip
    plain = read(**table)
    assert "4 images" in caplog.text
    caplog.clear()
    data = read(**table, unlabeled=str(root / "images"))
    same_labeled(plain, data)
    assert sorted(numbers(data.unlabeled)) == [8, 9, 10, 11]
    assert "no row" not in caplog.text


def test_labelled_files_are_not_among_them_however_they_are_reached(root, read, tmp_path):
    """A folder of links to some of all photographs is a common way to label them."""
    everything = tmp_path / "all"
    write_unlabeled(everything, 14, first=0)
    for number, file in enumerate(sorted(everything.rglob("*.png"))[:10]):
        place = root / ("train" if number < 6 else "test") / ("bee" if number % 2 else "ant") / file.name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(file)
    data = read(unlabeled=str(everything), val_fraction=0.5)
    labeled = {number for name in ("train", "val", "test") for number in numbers(data.splits[name])}
    assert len(labeled) == 10 and sorted(numbers(data.unlabeled)) == sorted(set(range(14)) - labeled)


def test_the_root_itself_has_nothing_else(root, read):
    write_splits(root, train=5, test=2)
    assert "14 images, all of them with labels" in faults(read, unlabeled=str(root))
    write_image(root / "train" / "stray.png", 700)
    assert numbers(read(unlabeled=str(root)).unlabeled) == [700]


def test_copies_of_test_images_are_a_leak(root, read, caplog):
    write_splits(root, train=5, test=2)
    folder = Path(write_unlabeled(root / "more", 3))
    shutil.copy(root / "test/bee/100.png", folder / "copy.png")
    shutil.copy(root / "train/ant/005.png", folder / "another.png")
    assert len(read(unlabeled=str(folder)).unlabeled.labels) == 5
    assert "2 images with more than one split" in caplog.text
    assert "test/bee/100.png = " in caplog.text and "()" not in caplog.text and ", )" not in caplog.text
    refused = faults(read, unlabeled=str(folder), duplicates="refuse")
    assert "2 have more than one split" in refused and "more/copy.png" in refused
    data = read(unlabeled=str(folder), duplicates="drop")
    same_labeled(read(), data)
    assert sorted(numbers(data.unlabeled)) == [500, 501, 502]
    shutil.rmtree(folder)
    folder.mkdir()
    shutil.copy(root / "test/bee/100.png", folder / "copy.png")
    assert "no readable image but copies" in faults(read, unlabeled=str(folder), duplicates="drop")


def test_copies_among_drawn_splits_are_found_too(root, read, caplog):
    write_folder(root, {"bee": 8, "ant": 8})
    shutil.copy(root / "bee/003.png", Path(write_unlabeled(root / "more", 2)) / "copy.png")
    read(unlabeled=str(root / "more"))
    assert "1 image with more than one split" in caplog.text


def test_the_same_image_twice_among_them_is_decoded_once(root, read):
    write_splits(root, train=5, test=2)
    folder = Path(write_unlabeled(root / "more", 2))
    shutil.copy(folder / "500.png", folder / "again.png")
    data = read(unlabeled=str(folder))
    assert len(data.unlabeled.labels) == 3 and len(data.unlabeled.source) == 2
    assert len(read(unlabeled=str(folder), duplicates="drop").unlabeled.labels) == 2


def test_unreadable_ones_are_refused_or_skipped(root, read, caplog):
    write_splits(root, train=5, test=2)
    folder = Path(write_unlabeled(root / "more", 3))
    (folder / "broken.jpg").write_bytes(b"no image")
    (folder / "notes.txt").write_text("not an image, and no trouble")
    refused = faults(read, unlabeled=str(folder))
    assert (
        refused.startswith(f"dataset.unlabeled={folder}: 1 of 4 images cannot be read")
        and "more/broken.jpg" in refused
    )
    assert "on_corrupt=skip" in refused
    assert len(read(unlabeled=str(folder), on_corrupt="skip").unlabeled.labels) == 3


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (None, "no such folder; expected a folder of images in "),
        ([], "0 images, 0 other files"),
        (["notes.txt", "table.csv"], "0 images, 2 other files (images end in .bmp, "),
    ],
)
def test_without_images_a_line_says_what_is_there(root, read, files, message):
    write_splits(root, train=5, test=2)
    if files is not None:
        (root / "more").mkdir()
        for name in files:
            (root / "more" / name).touch()
    said = faults(read, unlabeled=str(root / "more"))
    assert said.startswith(f"dataset.unlabeled={root / 'more'}: ") and message in said
    assert len(said.splitlines()) == 1


def test_they_are_decoded_as_the_labelled_ones(root, read):
    """Onto the same background, cropped, and upright."""
    write_splits(root, train=5, test=2)
    (root / "more").mkdir()
    Image.new("RGBA", (10, 20), (255, 0, 0, 0)).save(root / "more" / "clear.png")
    data = read(unlabeled=str(root / "more"), background=(0, 0, 255), resize="crop")
    assert data.unlabeled.images[0, :, 0, 0].tolist() == [0, 0, 255]


@pytest.mark.parametrize(("labeled", "other", "white"), [(4095, 60000, 4095), (None, 1023, 1023)])
def test_the_labelled_images_decide_the_range_of_16_bits(root, read, labeled, other, white):
    """So that more images without labels change no labelled one; without deep ones the others decide."""
    write_splits(root, train=5, test=2)

    def deep(value: int) -> Image.Image:
        return Image.fromarray(np.array([[0, value]] * 2, np.uint16))

    if labeled:
        deep(labeled).save(root / "train/bee/deep.png")
    (root / "more").mkdir()
    deep(other).save(root / "more" / "deep.png")
    plain, data = read(), read(unlabeled=str(root / "more"))
    same_labeled(plain, data)
    assert data.deep_range == plain.deep_range == ((0, white) if labeled else None)
    assert data.unlabeled.images.max() == 255


def test_the_labelled_images_are_not_decoded_again(root, read, monkeypatch):
    write_splits(root, train=5, test=2)
    read()
    folder = write_unlabeled(root / "more", 3)
    seen = []
    plain = decode.decode
    monkeypatch.setattr(decode, "decode", lambda *given: seen.append(1) or plain(*given))
    data = read(unlabeled=folder)
    assert len(seen) == 3
    write_image(root / "train/bee/new.png", 300)
    read(unlabeled=folder)
    assert len(seen) == 3 + 15  # all labelled ones, which have another array, and no other
    assert len(data.entries) == 4


def test_their_content_decides_the_fingerprint(root, read, tmp_path):
    write_splits(root, train=5, test=2)
    one = read(unlabeled=write_unlabeled(tmp_path / "a", 3))
    moved = read(unlabeled=write_unlabeled(tmp_path / "b", 3))
    more = read(unlabeled=write_unlabeled(tmp_path / "b", 4))
    assert one.unlabeled_fingerprint == moved.unlabeled_fingerprint != more.unlabeled_fingerprint
    assert (
        read(unlabeled=str(tmp_path / "a"), image_size=6).unlabeled_fingerprint != one.unlabeled_fingerprint
    )


def test_without_training_images_a_line_says_how_the_student_may_learn(root, read):
    write_splits(root, val=5, test=2)
    folder = write_unlabeled(root / "more", 3)
    said = faults(read, unlabeled=folder)
    hint = said.splitlines()[-1]
    assert "dataset.train_folder=val dataset.val_folder=none dataset.unlabeled_share=1" in hint
    data = read(unlabeled=folder, train_folder="val", val_folder="none")
    assert len(data.unlabeled.labels) == 3 and data.val is not None
