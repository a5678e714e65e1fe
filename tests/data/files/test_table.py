"""Tables of labels as spreadsheets and people write them: read, or refused with the line and what to do."""

import csv
import logging

import numpy as np
import pytest
from image_files import faults, numbers, write_image

PLAIN = {
    "source": "image_csv", "csv": "labels.csv", "images": "images", "image_column": "image",
    "label_column": "label", "partition_column": None,
}  # fmt: skip
SPLIT = {**PLAIN, "partition_column": "split"}
COUNT = 16


@pytest.fixture
def write(root):
    """Writes a table, given as text or as bytes, and the images `000.png` to `015.png`."""

    def write(content: str | bytes, suffix: str = ".png") -> None:
        root.mkdir(exist_ok=True)
        for number in range(COUNT):
            write_image(root / "images" / f"{number:03}{suffix}", number)
        encoded = content if isinstance(content, bytes) else content.encode()
        (root / "labels.csv").write_bytes(encoded)

    return write


def lines(separator: str = ",", name: str = "{:03}.png", header: str = "image,label,split") -> str:
    """Images by turns of a cat and of a dog, the last four of them for testing."""
    rows = [
        [name.format(number), ("cat", "dog")[number % 2], "train" if number < 12 else "test"]
        for number in range(COUNT)
    ]
    return "\n".join(map(separator.join, [header.split(","), *rows])) + "\n"


def check(data) -> None:
    """That every image has the label that its row tells, in the split that it tells."""
    assert data.classes == ("cat", "dog")
    assert sorted(numbers(data.train) + numbers(data.val)) == list(range(12))
    assert sorted(numbers(data.test)) == list(range(12, 16))
    for split in (data.train, data.val, data.test):
        assert [number % 2 for number in numbers(split)] == split.labels.tolist()


@pytest.mark.parametrize("separator", [";", "\t", "|", ","])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_separators_and_encodings_are_sniffed(read, write, separator, encoding):
    write(lines(separator).encode(encoding))
    check(read(**SPLIT))


@pytest.mark.parametrize(
    "header",
    [" image , label,split ", "Image,LABEL,Split", "image\xa0,\ufefflabel,split", "\n,,\nimage,label,split"],
)
def test_headers_with_blanks_or_in_another_case(read, write, header):
    write(lines().replace("image,label,split", header, 1))
    check(read(**SPLIT))


def test_what_spreadsheets_add_is_passed_over(read, write):
    rows = lines(";").replace("\n", ";\r\n")
    write("sep=;\r\n" + rows + ";;;\r\n\r\n")
    check(read(**SPLIT))


@pytest.mark.parametrize(
    "name",
    [
        "{:03}",
        "images/{:03}.png",
        "images\\{:03}.png",
        ".\\{:03}.png",
        "images/{:03}",
        "{:03}.PNG",
        "./{:03}.png",
        "x\\..\\{:03}",
    ],
)
def test_names_of_files_in_other_words(read, write, name):
    write(lines(name=name))
    check(read(**SPLIT))


def test_backslashes_between_folders(root, read, write):
    write(lines(name="old\\{:03}.png"))
    (root / "images").rename(root / "old")
    (root / "images").mkdir()
    (root / "old").rename(root / "images" / "old")
    check(read(**SPLIT))


def test_a_name_without_extension_that_may_be_two_files_is_refused(root, read, write):
    write(lines(name="{:03}"))
    write_image(root / "images" / "003.jpg", 3)
    assert "003: images/003.jpg or images/003.png" in faults(read, **SPLIT)


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [("training", "valid", "testing"), ("TRAIN", "Validation", "Test"), ("train", "dev", "test")],
)
def test_partitions_by_their_usual_names(read, write, train, val, test):
    text = lines().replace(",test", f",{test}").replace(",train", f",{train}")
    text = text.replace(f"011.png,dog,{train}", f"011.png,dog,{val}")
    write(text.replace(f"010.png,cat,{train}", f"010.png,cat,{val}"))
    data = read(**SPLIT)
    assert sorted(numbers(data.val)) == [10, 11] and sorted(numbers(data.test)) == [12, 13, 14, 15]


ONE_HOT = "image,cat,dog,split\n" + "".join(
    f"{number:03}.png,{1 - number % 2},{number % 2}.0,{'train' if number < 12 else 'test'}\n"
    for number in range(COUNT)
)


@pytest.mark.parametrize("label_column", ["label", ["cat", "dog"], ("Dog", "Cat")])
def test_columns_of_ones_and_zeros_are_classes(read, write, caplog, label_column):
    write(ONE_HOT)
    check(read(**{**SPLIT, "label_column": label_column}))
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert any("serve as classes: cat, dog" in each for each in said) == (label_column == "label")


def test_a_column_of_labels_is_taken_before_those_of_ones(read, write):
    write(
        "image,label,big,old\n"
        + "".join(f"{i:03}.png,{'ab'[i % 2]},{i % 2},{1 - i % 2}\n" for i in range(16))
    )
    assert read(**PLAIN).classes == ("a", "b")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("004.png,1,0.0", "004.png,1,1.0", "line 6: 1 is in cat and dog, but an image has one class"),
        ("004.png,1,0.0", "004.png,0,0.0", "line 6: 1 is in none of cat, dog, but an image has one class"),
        ("004.png,1,0.0", "004.png,1,2", "has no such column; its columns: image, cat, dog, split"),
    ],
)
def test_unclear_ones_are_refused_by_line(read, write, old, new, told):
    assert old in ONE_HOT
    write(ONE_HOT.replace(old, new))
    assert told in faults(read, **SPLIT)


def test_listed_columns_must_hold_ones_and_zeros(read, write):
    write(ONE_HOT.replace("004.png,1,0.0", "004.png,1,maybe"))
    message = faults(read, **{**SPLIT, "label_column": ["cat", "dog"]})
    assert "line 6: dog is maybe, but class columns must be 0 or 1; dataset.label_column" in message


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "004.png,cat",
            "004.png,a cat, black",
            "line 6: 4 values for 3 columns; a value that holds ',' needs",
        ),
        ("004.png,cat", '004.png,"cat\n005.png', "line 6: cannot be read as CSV"),
        (
            "004.png,cat",
            '004.png,"cat\nand more"',
            "line 6: a value has several lines (cat…); perhaps a quote",
        ),
        ("004.png,cat,train", "004.png", "line 6: no value in label, split"),
        (
            "004.png,cat,train",
            "004.png,cat,some",
            "line 6: split is some; allowed: train, training, val, valid",
        ),
        ("image,label,split", "label,image,image", "dataset.image_column=image: "),
        ("image,label,split\n", "", "Its first line names an image"),
        (",", " ", "Columns are separated by commas, semicolons, tabs or |"),
    ],
)
def test_what_stays_unclear_is_refused_with_what_to_do(read, write, old, new, told):
    text = lines()
    assert old in text
    write(text.replace(old, new) if old == "," else text.replace(old, new, 1))
    assert told in faults(read, **SPLIT)


@pytest.mark.parametrize(("text", "line"), [("caf\xe9", 6), ("\xff", 6)])
def test_another_encoding_is_refused_by_line(read, write, text, line):
    write(lines().replace("004.png,cat", f"004.png,{text}").encode("latin-1"))
    assert f"line {line}: is not UTF-8" in faults(read, **SPLIT)


def test_an_unused_column_of_partitions_is_named(read, write, caplog):
    write(lines())
    read(**PLAIN)
    assert "the column split (test, train) is not used: splits are drawn" in caplog.text
    caplog.clear()
    check(read(**SPLIT))
    assert "not used" not in caplog.text


@pytest.mark.parametrize(
    "pair", [("true", "false"), ("yes", "no"), ("null", "NA"), ("007", "7"), ("nan", "None")]
)
def test_labels_keep_their_text(read, write, pair):
    write(lines().replace("cat", pair[0]).replace("dog", pair[1]))
    assert set(read(**SPLIT).classes) == set(pair)


def test_columns_may_be_called_anything(read, write):
    write(lines(header="yes,1,null"))
    for image_column in ("yes", True):  # as YAML reads it
        columns = {"image_column": image_column, "label_column": 1, "partition_column": "null"}
        check(read(**{**PLAIN, **columns}))


def test_labels_that_are_nearly_the_same_are_named(read, write, caplog):
    write(
        lines()
        .replace("000.png,cat", "000.png,Cat")
        .replace("012.png,cat", "012.png,Cat")
        .replace("2.png,cat", "2.png,cat ")
    )
    assert read(**SPLIT).classes == ("Cat", "cat", "dog")
    assert "classes with nearly equal names: 'Cat' (2), 'cat' (6)" in caplog.text


def test_notes_of_several_lines_do_no_harm(root, read, write):
    rows = [*csv.reader(lines().splitlines())]
    write("")
    with (root / "labels.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([[*row, "two\nlines, and a comma"] for row in rows])
    check(read(**SPLIT))


def test_a_table_that_uses_none_of_it_is_read_as_ever(read, write):
    write(lines())
    data = read(**SPLIT)
    assert np.bincount(data.train.labels).sum() == 9
    write(lines(";", name="{:03}", header="Image,Label,Split").encode("utf-16"))
    again = read(**SPLIT)
    assert (again.fingerprint, again.test_fingerprint) == (data.fingerprint, data.test_fingerprint)
