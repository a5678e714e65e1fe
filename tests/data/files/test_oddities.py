"""Image folders as people have them: what would give wrong results in silence is read, named or refused."""

import logging
import os
import re
import shutil
import struct

import numpy as np
import pytest
from helpers import composed
from hypothesis import given
from hypothesis import strategies as st
from image_files import (
    COMMON,
    FOLDERS,
    colour,
    encoded,
    faults,
    numbers,
    write_folder,
    write_image,
    write_splits,
)
from PIL import EpsImagePlugin, Image
from planning import keys

from kdsweep.config import ImageFolder
from kdsweep.config.parse import parse
from kdsweep.data.files import decode, names, pixels
from kdsweep.data.files.decode import Look
from kdsweep.data.files.folders import files_below
from kdsweep.data.split import grouped_split, stratified_split
from kdsweep.errors import ConfigError, DataError
from kdsweep.export.preprocessing import Preprocessing


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert all("\n" not in each for each in found)
    caplog.clear()
    return found


# names of splits


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [("train", "valid", "test"), ("Train", "Validation", "TEST"), ("training", "dev", "testing")],
)
def test_splits_by_their_usual_names(root, read, caplog, train, val, test):
    write_splits(root, **{train: 4, val: 2, test: 3})
    data = read()
    assert not data.draws_val and sorted(numbers(data.val)) == list(range(100, 104))
    assert sorted(numbers(data.train)) == list(range(8))
    assert sorted(numbers(data.test)) == list(range(200, 206))
    assert not warnings(caplog)


def test_a_folder_beside_the_splits_is_named(root, read, caplog):
    write_splits(root, train=4, val=2, test=2, validation=2, holdout=2)
    assert sorted(numbers(read().val)) == list(range(100, 104)), "the one that the config names"
    (warning,) = warnings(caplog)
    assert "2 folders left out" in warning and "holdout/, validation/" in warning


def test_a_name_of_the_config_that_is_no_usual_one_is_not_replaced(root, read, caplog):
    write_splits(root, train=8, valid=2, test=2)
    data = read(val_folder="none")
    assert data.draws_val and len(data.train.labels) + len(data.val.labels) == 16
    assert "1 folder left out" in warnings(caplog)[0]


# the same image more than once


def copied(root) -> None:
    """A training image is a test image too, and one of the bees is among the ants."""
    write_splits(root, train=4, test=3)
    shutil.copy(root / "train" / "bee" / "000.png", root / "test" / "bee" / "again.png")
    shutil.copy(root / "train" / "bee" / "001.png", root / "train" / "ant" / "wrong.png")
    shutil.copy(root / "train" / "ant" / "005.png", root / "train" / "ant" / "twice.png")


def test_copies_are_counted_and_named(root, read, caplog):
    copied(root)
    data = read()
    assert len(data.train.labels) + len(data.val.labels) == 10 and len(data.test.labels) == 7
    labels, splits = warnings(caplog)
    assert "1 image with more than one label: train/ant/wrong.png = train/bee/001.png (ant, bee)" in labels
    assert "1 image with more than one split: test/bee/again.png = train/bee/000.png" in splits


def test_copies_are_refused_or_left_out(root, read, caplog):
    copied(root)
    message = faults(read, duplicates="refuse")
    assert "1 have more than one label, 1 have more than one split" in message
    assert (
        "train/ant/wrong.png = train/bee/001.png (ant, bee)" in message
        and "dataset.duplicates=drop" in message
    )
    caplog.clear()
    data = read(duplicates="drop")
    assert sorted(numbers(data.train) + numbers(data.val)) == [2, 3, 4, 5, 6, 7], "none with two labels"
    assert sorted(numbers(data.test)) == [0, *range(100, 106)], "tested are the same images as before"
    (warning,) = warnings(caplog)
    assert "4 images left out" in warning and "all copies of 1 images with more than one label" in warning


def test_what_has_no_copies_is_the_same_however_they_are_treated(root, read):
    write_splits(root, train=4, test=3)
    told = {(data.fingerprint, data.test_fingerprint) for data in (
        read(duplicates=how) for how in ("warn", "refuse", "drop")
    )}  # fmt: skip
    assert len(told) == 1


@pytest.mark.parametrize("seed", range(4))
def test_copies_stay_on_one_side_of_drawn_splits(root, read, seed):
    write_folder(root, {"bee": 16, "ant": 16})
    for number in range(16):
        shutil.copy(root / "bee" / f"{number:03}.png", root / "bee" / f"copy{number}.png")
    data = read(split_seed=seed)
    sides = [set(numbers(split)) for split in (data.train, data.val, data.test)]
    assert sum(map(len, sides)) == 32 == len(set.union(*sides))
    assert sum(len(split.labels) for split in (data.train, data.val, data.test)) == 48


def test_a_split_drawn_around_copies_has_a_key_of_its_own(root, read):
    write_splits(root, train=8, test=2)
    plain = read().fingerprint
    shutil.copy(root / "train" / "bee" / "000.png", root / "train" / "bee" / "copy.png")
    drawn = read().fingerprint
    write_splits(root, train=8, test=2)
    (root / "train" / "bee" / "copy.png").unlink()
    assert read().fingerprint == plain != drawn


@given(st.lists(st.integers(0, 3), min_size=2, max_size=50), st.floats(0.05, 0.95), st.integers(0, 99))
def test_a_grouped_split_without_copies_is_the_plain_one(labels, share, seed):
    labels, apart = np.array(labels), np.random.RandomState(seed).permutation(len(labels))
    for ours, plain in zip(
        grouped_split(labels, apart, share, seed), stratified_split(labels, share, seed), strict=True
    ):
        assert (ours == plain).all()
    part, rest = grouped_split(labels, apart // 2, share, seed)
    assert sorted([*part, *rest]) == list(range(len(labels)))
    assert not set(apart[part] // 2) & set(apart[rest] // 2)


# transparency


def drawing(shape: int, size: int = 12) -> Image.Image:
    """Black all over; only the alpha channel says where."""
    alpha = np.zeros((size, size), np.uint8)
    alpha[:, : size // 2] = 255
    black = np.zeros((size, size, 3), np.uint8)
    return Image.fromarray(np.dstack([black, alpha if shape else 255 - alpha]))


@pytest.mark.parametrize("form", ["png", "webp", "tiff", "gif", "jpeg2000"])
def test_transparent_pixels_show_the_background(form):
    how = {"lossless": True} if form == "webp" else {}
    left, right = (
        decode.decode(encoded(drawing(shape), form, **how), Look(12, "squash")).pixels for shape in (1, 0)
    )
    assert (left[:, :, :4] == 0).all() and (left[:, :, 8:] == 255).all()
    assert (right[:, :, 8:] == 0).all() and (right[:, :, :4] == 255).all()


def test_alpha_blends_onto_any_colour_in_every_mode():
    blue = Look(4, "squash", background=(0, 0, 200))
    half = encoded(Image.new("RGBA", (6, 6), (200, 100, 0, 128)))
    assert decode.decode(half, blue).pixels[:, 0, 0].tolist() == pytest.approx([100, 50, 100], abs=1)
    grey = encoded(Image.new("LA", (6, 6), (90, 0)))
    assert decode.decode(grey, blue).pixels[:, 0, 0].tolist() == [0, 0, 200]
    assert decode.decode(grey, Look(4, "squash", "L")).pixels[:, 0, 0].tolist() == [255]
    palette = Image.new("P", (6, 6), 0)
    palette.putpalette([0, 0, 0, 9, 9, 9])
    assert colour(palette, transparency=0) == [255, 255, 255]
    assert colour(Image.new("RGB", (6, 6), (1, 2, 3)), transparency=(1, 2, 3)) == [255, 255, 255]
    assert colour(Image.fromarray(np.full((6, 6), 700, np.uint16)), transparency=700) == [255, 255, 255]


def test_drawings_are_composed_and_that_is_said(root, read, caplog):
    for number, name in enumerate(("left", "right")):
        for split, count in (("train", 4), ("test", 2)):
            for i in range(count):
                file = root / split / name / f"{i}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                drawing(number, 12 + i + count).save(file)
    white = read()
    (warning,) = warnings(caplog)
    assert "12 transparent images composed onto [255, 255, 255] (dataset.background)" in warning
    brightest = white.train.images.reshape(len(white.train.labels), -1).max(axis=1)
    assert (brightest == 255).all(), "no black squares"
    grey = read(background=(128, 128, 128))
    assert 128 <= grey.train.images.max() < 140 and grey.fingerprint != white.fingerprint
    assert read(background=(255, 255, 255)).fingerprint == white.fingerprint


def test_the_background_of_opaque_images_is_in_no_key(root, read):
    write_splits(root, train=4, test=2)
    assert read().fingerprint == read(background=(0, 0, 0)).fingerprint


# 16 bits


@pytest.mark.parametrize("form", ["png", "tiff"])
@pytest.mark.parametrize(("low", "high", "white"), [
    (0, 4095, 4095), (10, 900, 1023), (0, 65535, 65535), (30000, 33000, 65535), (0, 200, 255),
])  # fmt: skip
def test_sixteen_bits_are_scaled_by_the_bits_that_the_data_take(root, read, caplog, form, low, high, white):
    ramp = np.linspace(low, high, 64).round().astype(np.uint16).reshape(8, 8)
    for split in ("train", "test"):
        for number, name in enumerate("ab"):
            for i in range(4):
                file = root / split / name / f"{i}.{form}"
                file.parent.mkdir(parents=True, exist_ok=True)
                turned = np.rot90(ramp, i) if number else np.rot90(ramp, i).T
                Image.fromarray(np.ascontiguousarray(turned)).save(file)
    data = read()
    expected = np.rint(ramp * (255 / white))
    for image in data.test.images:
        assert sorted(image[0].ravel()) == pytest.approx(sorted(expected.ravel()), abs=1)
    assert data.deep_range == (0, white)
    scaled = f"16 images of 16 bits scaled by the range of their values, 0 to black, {white} to white"
    assert any(scaled in each for each in warnings(caplog))


def test_one_range_holds_for_all_images_of_a_data_set(root, read):
    """Of an image that is half as bright as another, its pixels are half as bright."""
    for split in ("train", "test"):
        for name, value in (("dark", 1000), ("bright", 4000)):
            for i in range(4):
                file = root / split / name / f"{i}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.full((4 + i, 4), value, np.uint16)).save(file)
    data = read()
    for image, label in zip(data.test.images, data.test.labels, strict=True):
        assert (image == (249 if data.classes[label] == "bright" else 62)).all()


def tiff(pixels: np.ndarray, sample_format: int, bits: int = 16) -> bytes:
    """A little-endian TIFF file of one channel, which Pillow would not write with signed 16 bits."""
    height, width = pixels.shape
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: 1, 273: 8, 277: 1, 278: height,
            279: pixels.nbytes, 339: sample_format}  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    return b"II*\0" + struct.pack("<I", 8 + pixels.nbytes) + pixels.tobytes() + directory


def test_signed_and_stated_ranges():
    signed = tiff(np.array([[-1024, 0], [1000, 2047]], "<i2"), sample_format=2)
    assert decode.decode(signed, Look(2, "squash")).extremes == (-1024, 2047)
    look = Look(2, "squash", deep=decode.deep_range([(-1024, 2047)]))
    assert decode.decode(signed, look).pixels[0].tolist() == [[64, 128], [190, 255]]
    twelve = tiff(np.array([[15, 0]], ">u2").byteswap(), sample_format=1, bits=12)  # 12 bits each, packed
    assert decode.decode(twelve, Look(2, "squash")).extremes == (0, 4095), "as the format states"
    assert decode.deep_range([(-1024, 3000)]) == (-8192, 8191)
    assert decode.deep_range([(-1, 100), (5, 127)]) == (-128, 127)
    assert decode.deep_range([]) == (0, 65535)
    # the format of PGM states its range, by which Pillow scales to 16 bits
    pgm = b"P5 2 1 4095\n" + struct.pack(">2H", 0, 4095)
    assert decode.decode(pgm, Look(2, "squash")).extremes is None
    assert decode.decode(pgm, Look(2, "squash")).pixels[0].max() == 255


# links


def test_links_in_circles_add_nothing(root, read, caplog):
    write_splits(root, train=4, test=2)
    plain = read().fingerprint
    (root / "train" / "bee" / "again").symlink_to(root / "train" / "bee")
    (root / "train" / "bee" / "up").symlink_to("..")
    (root / "train" / "ant" / "root").symlink_to(root)
    (root / "train" / "ant" / "bees").symlink_to("../bee")
    (root / "train" / "bee" / "ants").symlink_to("../ant")
    (root / "train" / "all").symlink_to(root)
    (root / "self").symlink_to("self")
    caplog.clear()
    data = read()
    assert len(data.train.labels) + len(data.val.labels) == 8 and len(data.test.labels) == 4
    assert data.fingerprint == plain
    (warning,) = warnings(caplog)
    assert re.search(r"left out \d+ links to folders already listed", warning)


def test_links_to_elsewhere_are_followed(root, read, tmp_path, caplog):
    write_folder(tmp_path / "elsewhere", {"x": 5}, first=50)
    write_splits(root, train=4, test=2)
    (root / "train" / "bee" / "more").symlink_to(tmp_path / "elsewhere" / "x")
    (root / "train" / "ant" / "one.png").symlink_to(tmp_path / "elsewhere" / "y.png")
    write_image(tmp_path / "elsewhere" / "y.png", 99)
    data = read()
    assert sorted(numbers(data.train) + numbers(data.val)) == [*range(8), *range(50, 55), 99]
    assert not warnings(caplog)


def test_a_folder_of_folders_is_walked_once(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "x.png").touch()
    (tmp_path / "a" / "b" / "loop").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "shortcut").symlink_to(tmp_path / "a" / "b")
    assert list(files_below(tmp_path / "a")) == ["b/x.png"]


# classes


def test_numbers_are_in_the_order_of_their_values(root, read, capsys):
    write_folder(root / "train", {str(number): 3 for number in range(12)})
    write_folder(root / "test", {str(number): 1 for number in range(12)}, first=100)
    data = read()
    assert data.classes == tuple(map(str, range(12)))
    assert "classes of mine, in order: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11" in capsys.readouterr().out
    for number, label in zip(numbers(data.test), data.test.labels, strict=True):
        assert number - 100 == label
    by_letters = read(classes=tuple(sorted(data.classes)))
    assert by_letters.classes[:3] == ("0", "1", "10")
    assert by_letters.fingerprint != data.fingerprint, "another network comes of it"
    assert names.in_order(["-1", "10", "2.5", "007"]) == ("-1", "2.5", "007", "10")
    assert names.in_order(["10", "9", "other"]) == ("10", "9", "other")


def test_classes_can_be_ordered_and_chosen(root, read):
    write_folder(root / "train", {"ant": 4, "bee": 4, "cat": 4})
    write_folder(root / "test", {"ant": 2, "bee": 2, "cat": 2}, first=100)
    (root / "train" / "empty").mkdir()
    data = read(classes=("cat", "ant"))
    assert data.classes == ("cat", "ant") and data.positive == 1
    assert sorted(zip(numbers(data.test), data.test.labels, strict=True)) == [
        (100, 1), (101, 1), (104, 0), (105, 0),
    ]  # fmt: skip
    shutil.rmtree(root / "train" / "empty")
    assert read(classes=("ant", "bee", "cat")).fingerprint == read().fingerprint, (
        "the order that it has anyway"
    )
    assert "dataset.classes: dog: no such class; allowed, each once: ant, bee, cat" in faults(
        read, classes=("ant", "dog")
    )
    assert "ant: named twice" in faults(read, classes=("ant", "ant"))


def recipe(**changes) -> ImageFolder:
    return ImageFolder(**{**COMMON, **FOLDERS, "root": "x", **changes})


@pytest.mark.parametrize(
    ("given", "there", "meant"),
    [(True, ("true", "false"), "true"), (False, ("yes", "no"), "no"), (True, ("on", "off"), "on"),
     (7, ("007", "008"), "007"), ("null", ("null", "some"), "null"), ("yes", ("yes", "no"), "yes"),
     (1, ("0", "1"), "1"), (0.5, ("0.5", "0.50x"), "0.5")],
)  # fmt: skip
def test_names_that_yaml_reads_otherwise_keep_their_text(root, read, given, there, meant):
    for split in ("train", "test"):
        write_folder(root / split, dict.fromkeys(there, 4), first=100 * (split == "test"))
    data = read(positive_class=given)
    assert data.classes == tuple(sorted(there)) and data.classes[data.positive] == meant
    assert read(classes=[given, next(name for name in there if name != meant)]).classes[0] == meant


def test_a_name_that_two_classes_have_for_yaml_is_refused(root, read):
    for split in ("train", "test"):
        write_folder(root / split, {"yes": 2, "on": 2}, first=100 * (split == "test"))
    assert "YAML reads both classes as this" in faults(read, positive_class=True)
    assert read(positive_class="yes").positive == 1


def test_texts_of_a_config_may_look_like_numbers_or_nothing():
    made = recipe(name=2024, classes=[None, True, 3], train_folder=1)
    assert (made.name, made.classes, made.train_folder) == ("2024", ("null", "true", "3"), "1")


def test_names_that_are_nearly_the_same_are_named(root, read, caplog):
    counts = {"Cat": 2, "cat ": 3, "cat": 4, "dog": 2, "hot dog": 2, "hot_dog": 2}
    for split in ("train", "test"):
        write_folder(root / split, counts, first=100 * (split == "test"))
    assert len(read().classes) == 6
    cats, dogs = warnings(caplog)[:2]
    assert "'Cat' (4), 'cat' (8), 'cat ' (6)" in cats and "'hot dog' (4), 'hot_dog' (4)" in dogs
    assert names.alike(("1", "01", "1.0", "11", "1-1")) == [("1", "01", "1.0")]


def test_names_of_any_bytes_are_one_line_of_text(root, read, caplog):
    latin, broken = os.fsdecode(b"caf\xe9"), "two\nlines"
    for split in ("train", "test"):
        write_folder(root / split, {latin: 4, broken: 4}, first=100 * (split == "test"))
        first = min((root / split / latin).iterdir())
        first.rename(first.with_name(os.fsdecode(b"\xff.png")))
    data = read()
    assert data.classes == ("caf\\xe9", "two\\nlines")
    assert len(data.train.labels) + len(data.val.labels) == 8
    for name in (os.fsdecode(b"\xfe.png"), "new\nline.png"):
        (root / "train" / broken / name).write_text(f"no image {name!r}")
    message = faults(read)
    assert "train/two\\nlines/\\xfe.png: not an image" in message and len(message.splitlines()) == 4
    message.encode()
    caplog.clear()
    assert read(on_corrupt="skip").fingerprint == data.fingerprint


# what is no image of the data set


def test_litter_is_left_out_and_named_once(root, read, caplog):
    write_splits(root, train=4, test=2)
    plain = read().fingerprint
    write_image(root / "__MACOSX" / "train" / "bee" / "a.png", 50)
    write_image(root / "train" / "__MACOSX" / "a.png", 50)
    write_image(root / "train" / "@eaDir" / "thumb.jpg", 51)
    write_image(root / "train" / "bee" / "@eaDir" / "thumb.jpg", 51)
    write_image(root / "train" / "bee" / ".ipynb_checkpoints" / "000-checkpoint.png", 52)
    (root / "train" / ".ipynb_checkpoints").mkdir()
    (root / "train" / "bee" / "Thumbs.db").touch()
    (root / "train" / ".DS_Store").touch()
    (root / "train" / "bee" / "._000.png").write_text("no image")
    (root / "test" / "System Volume Information").mkdir()
    assert read().fingerprint == plain
    (warning,) = warnings(caplog)
    assert warning.endswith(
        "left out what programs left behind: 1 .DS_Store, 1 ._*, 2 .ipynb_checkpoints, 2 @eaDir, "
        "1 System Volume Information, 1 Thumbs.db, 2 __MACOSX"
    )


def test_broken_links_and_pipes_are_unreadable_files(root, read, caplog):
    write_splits(root, train=4, test=2)
    plain = read().fingerprint
    bees = root / "train" / "bee"
    (bees / "gone.png").symlink_to(root / "nowhere.png")
    (bees / "self.png").symlink_to("self.png")
    os.mkfifo(bees / "pipe.png")
    message = faults(read)
    assert "3 of 15 images cannot be read" in message and "train/bee/pipe.png: not a regular file" in message
    assert read(on_corrupt="skip").fingerprint == plain
    write_image(root / "nowhere.png", 60)
    assert len(read(on_corrupt="skip").train.labels) == 7, "once it is there, it is read"


def test_a_file_that_could_not_be_read_is_tried_again(root, read, monkeypatch):
    write_splits(root, train=4, test=2)
    real = pixels.sha256

    def refuse(file):
        if file.name == "000.png":
            raise PermissionError(13, "Permission denied")
        return real(file)

    monkeypatch.setattr(pixels, "sha256", refuse)
    assert "train/bee/000.png: Permission denied" in faults(read)
    monkeypatch.setattr(pixels, "sha256", real)
    assert len(read().train.labels) == 6


def test_postscript_by_any_name_never_reaches_pillow(root, read, monkeypatch):
    def ghostscript(*arguments: object, **options: object) -> None:
        raise AssertionError("Ghostscript was started")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", ghostscript)
    write_splits(root, train=4, test=2)
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    (root / "train" / "bee" / "photo.jpg").write_bytes(postscript)
    assert "train/bee/photo.jpg: not an image of a known format (JPEG, PNG, GIF" in faults(read)
    for other in ("tga", "ico", "eps"):  # siblings that Pillow would open
        with pytest.raises(Image.UnidentifiedImageError):
            decode.decode(encoded(Image.new("RGB", (16, 16)), other), Look(4, "squash"))
    for form in ("jpeg", "png", "gif", "bmp", "ppm", "tiff", "webp", "jpeg2000", "avif", "mpo"):
        assert decode.decode(encoded(Image.new("RGB", (16, 16)), form), Look(4, "squash")).pixels.max() < 3


# what goes with the network


def test_prediction_decodes_as_training_did():
    told = {"name": "x", "shape": (3, 4, 4), "resize": "squash", "mean": [0] * 3, "std": [1] * 3,
            "classes": ["a", "b"]}  # fmt: skip
    clear = encoded(Image.new("RGBA", (6, 6), (9, 9, 9, 0)))
    deep = encoded(Image.fromarray(np.full((6, 6), 4095, np.uint16)))
    plain = Preprocessing.of(told)
    ours = Preprocessing.of({**told, "background": [0, 128, 0], "deep_range": [0, 4095]})
    assert plain.pixels(clear)[:, 0, 0].tolist() == [255] * 3
    assert plain.pixels(deep)[:, 0, 0].tolist() == [16] * 3
    assert ours.pixels(clear)[:, 0, 0].tolist() == [0, 128, 0]
    assert ours.pixels(deep)[:, 0, 0].tolist() == [255] * 3


def test_it_is_kept_in_the_exported_folder(tmp_path):
    told = {"name": "x", "shape": (3, 4, 4), "resize": "squash", "mean": [0] * 3, "std": [1] * 3,
            "classes": ["a", "b"], "background": (1, 2, 3), "deep_range": (0, 1023)}  # fmt: skip
    Preprocessing.of(told).save(tmp_path)
    again = Preprocessing.load(tmp_path)
    assert list(again.background) == [1, 2, 3] and list(again.deep_range) == [0, 1023]


def test_keys_of_the_config_that_have_no_effect_are_in_no_key():
    folder = ("dataset=image_folder", "dataset.root=x")
    assert keys(*folder) == keys(*folder, "dataset.duplicates=drop", "dataset.background=black",
                                 "dataset.classes=[a,b]")  # fmt: skip


@pytest.mark.parametrize(
    ("given", "colour"),
    [("black", (0, 0, 0)), ("grey", (128, 128, 128)), ("'#ff8000'", (255, 128, 0)), ("[1,2,3]", (1, 2, 3))],
)
def test_backgrounds(given, colour):
    made = parse(composed("dataset=image_folder", "dataset.root=x", f"dataset.background={given}")).dataset
    assert made.background == colour


@pytest.mark.parametrize("given", ["pink", "[1,2]", "[1,2,256]", "3", "null"])
def test_no_backgrounds(given):
    with pytest.raises(
        ConfigError, match=r"dataset\.background.*: allowed: white, grey, black, \[red, green"
    ):
        parse(composed("dataset=image_folder", "dataset.root=x", f"dataset.background={given}"))


def test_data_errors_name_what_is_allowed(root, read):
    write_splits(root, train=4, test=2)
    with pytest.raises(DataError, match="no such class; allowed: ant, bee, null"):
        read(positive_class=True)


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("positive_class=true", "positive_class", "true"),
        ("positive_class=yes", "positive_class", "yes"),
        ("positive_class=null", "positive_class", None),
        ('positive_class="null"', "positive_class", "null"),
        ("classes=[yes,null,7]", "classes", ("yes", "null", "7")),
        ("name=2024", "name", "2024"),
    ],
)
def test_names_on_the_command_line(override, key, value):
    made = parse(composed("dataset=image_folder", "dataset.root=x", f"dataset.{override}")).dataset
    assert getattr(made, key) == value


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("classes=[a]", r"dataset.classes=\[\"a\"\]: must be a list of two classes or more, or null$"),
        ("classes=a", "dataset.classes=a: must be a list of two classes or more, or null$"),
        ("classes=[a,[b]]", "must be a list of two classes or more, or null$"),
        ("duplicates=some", "dataset.duplicates=some: allowed: warn, refuse, drop$"),
    ],
)
def test_mistakes_in_these_keys(override, told):
    with pytest.raises(ConfigError, match=told):
        parse(composed("dataset=image_folder", "dataset.root=x", f"dataset.{override}"))


@pytest.mark.parametrize("given", ["{a:1}", "[[a],b]"])
def test_mistakes_in_columns_of_labels(given):
    with pytest.raises(ConfigError, match=r"dataset\.label_column.*: must be a column, or a list of two or"):
        parse(composed("dataset=image_csv", "dataset.root=x", f"dataset.label_column={given}"))
