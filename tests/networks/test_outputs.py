"""Files of outputs: read, joined by name, refused."""

import json
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from kdsweep.errors import ConfigError
from kdsweep.networks.build import build, build_initial

TARGET = {"_target_": "kdsweep.networks.outputs.Outputs"}
NAMES = ["train/cats/1.jpg", "train/dogs/2.jpg", "test/cats/3.jpg"]
VALUES = np.arange(6, dtype=np.float32).reshape(3, 2)


def opened(file: Path, classes: int = 2) -> torch.nn.Module:
    return build_initial(TARGET, classes, (3, 8, 8), file, trained=False)


def written(kind: str, folder: Path, names: list[str], values: np.ndarray, heads: list[str]) -> Path:
    file = folder / f"teacher.{kind}"
    if kind == "npz":
        np.savez(file, names=np.array(names), logits=values, classes=np.array(heads))
    elif kind == "safetensors":
        metadata = {"names": json.dumps(names), "classes": json.dumps(heads)}
        save_file({"logits": values}, file, metadata)
    else:
        frame = pandas.DataFrame(values, columns=heads)
        frame.insert(0, "image", names)
        frame.to_csv(file, index=False) if kind == "csv" else frame.to_parquet(file)
    return file


@pytest.mark.parametrize("kind", ["npz", "safetensors", "csv", "parquet"])
def test_images_are_looked_up_by_name_whatever_the_format(tmp_path, kind):
    file = opened(written(kind, tmp_path, NAMES, VALUES, ["cats", "dogs"]))
    assert file.of([NAMES[2], NAMES[0]]).tolist() == VALUES[[2, 0]].tolist()
    assert file.columns(["dogs", "cats"]) == [1, 0]
    again = build(TARGET, 2, (3, 8, 8))
    again.load_state_dict(file.state_dict())
    assert again.of(NAMES).tolist() == VALUES.tolist() and again.columns(["cats", "dogs"]) == [0, 1]


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_arrays_of_splits_follow_their_images(tmp_path, kind):
    arrays = {"train": VALUES, "test": VALUES + 10}
    file = tmp_path / f"teacher.{kind}"
    np.savez(file, **arrays) if kind == "npz" else save_file(arrays, file)
    assert opened(file).of(["test/2", "train/0"]).tolist() == [[14, 15], [0, 1]]


def test_a_table_may_have_splits_and_indices(tmp_path):
    frame = pandas.DataFrame({"split": ["train", "test"], "index": [4, 0], "0": [0.1, 0.2], "1": [0.9, 0.8]})
    frame.to_csv(tmp_path / "teacher.csv", index=False)
    file = opened(tmp_path / "teacher.csv")
    assert file.of(["test/0"])[0].tolist() == pytest.approx([0.2, 0.8])
    assert file.columns(["zero", "one"]) is None, "numbers name no class"


@given(st.permutations(range(30)), st.sampled_from(["", "/mnt/data/", "./", "C:\\images\\"]))
def test_the_order_of_rows_and_where_the_images_lay_do_not_matter(tmp_path_factory, order, start):
    folder = tmp_path_factory.mktemp("outputs")
    names = [f"train/{number % 3}/{number}.png" for number in range(30)]
    values = np.arange(60, dtype=np.float32).reshape(30, 2)
    given_names = [start + names[row].replace("/", "\\" if "\\" in start else "/") for row in order]
    file = opened(written("npz", folder, given_names, values[list(order)], []))
    assert file.of(names).tolist() == values.tolist()


REFUSED = {
    "a missing image": (
        {"names": NAMES[:2], "values": VALUES[:2]},
        r"nothing of 1 of 3 images: test/cats/3\.jpg",
    ),
    "a name twice": ({"names": [NAMES[0], *NAMES[:2]]}, r"names train/cats/1\.jpg twice"),
    "NaN": ({"values": np.where(VALUES == 3, np.nan, VALUES)}, r"NaN or infinity of train/dogs/2\.jpg"),
    "fewer rows than names": ({"values": VALUES[:2]}, "3 names of images and 2 rows"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_file_that_does_not_fit_is_refused_with_the_image(tmp_path, what):
    changes, why = REFUSED[what]
    table = {"names": NAMES, "values": VALUES, **changes}
    with pytest.raises(ConfigError, match=why):
        opened(written("npz", tmp_path, table["names"], table["values"], [])).of(NAMES)


def test_other_columns_and_other_files_are_refused(tmp_path):
    file = opened(written("csv", tmp_path, NAMES, VALUES, ["cats", "dogs"]))
    with pytest.raises(ConfigError, match=r"has no column birds; it has cats, dogs; .*teacher\.classes"):
        file.columns(["birds", "cats"])
    for name, content, why in (
        ("a.txt", "words", r"no file of outputs; allowed: \.npz, \.safetensors, \.csv, \.parquet"),
        ("a.npz", "words", "cannot be read"),
        ("a.safetensors", "words", "cannot be read"),
        ("a.parquet", "words", "cannot be read"),
        ("a.csv", "a,b\n1,2\n", "must have image for the images' names, or split and index"),
        ("c.csv", "image,a,b\n", "has no rows"),
        ("b.csv", "image,a,b\nx,1,cat\n", "its column b holds no numbers"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(ConfigError, match=why) as found:
            opened(tmp_path / name)
        assert "\n" not in str(found.value)
    np.savez(tmp_path / "odd.npz", one=VALUES, two=VALUES)
    with pytest.raises(ConfigError, match=r"holds one \[3, 2\], two \[3, 2\]; must hold one array"):
        opened(tmp_path / "odd.npz")
