"""`kdsweep-predict` on folders that `kdsweep-export` made: of images, and of mistakes."""

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import COMMAND, TINY, Command, environment
from PIL import ExifTags, Image

from kdsweep.data.arrays import read_arrays
from kdsweep.data.files.decode import Look, decode
from kdsweep.export.folder import load
from kdsweep.export.preprocessing import Preprocessing


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student of the digits, exported; beside it the folder `digits` with the whole test split."""
    folder = tmp_path_factory.mktemp("shipped")

    def run(*command: str) -> None:
        done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    run(COMMAND, "method=scratch", "hydra.run.dir=job", *TINY)
    formats = ("--to", "onnx", "safetensors", "--quantize", "dynamic")
    run(f"{COMMAND}-export", "job", *formats, "--out", "model")
    (folder / "digits").mkdir()
    for number, image in enumerate(read_arrays("digits", "").test.images):
        Image.fromarray(image[0]).save(folder / "digits" / f"{number:03}.png")
    return folder


@pytest.fixture
def predict(shipped: Path) -> Command:
    def run(*arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [f"{COMMAND}-predict", *arguments], cwd=shipped, env=environment(), capture_output=True, text=True
        )
        assert done.returncode == status, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run


def lines(done: subprocess.CompletedProcess[str]) -> list[list[str]]:
    return [line.split("\t") for line in done.stdout.splitlines()]


@pytest.mark.long
def test_the_whole_test_split_gets_the_classes_that_pytorch_gives(shipped, predict):
    import torch

    shown = lines(predict("model", "digits", "--batch", "50"))
    images = read_arrays("digits", "").test.images
    with torch.no_grad():
        outputs = load(shipped / "model")(torch.from_numpy(images).float() / 255)
    assert [file for file, _, _ in shown] == [f"digits/{number:03}.png" for number in range(len(images))]
    assert [int(name) for _, name, _ in shown] == outputs.argmax(dim=1).tolist()
    likeliest = outputs.softmax(dim=1).amax(dim=1).tolist()
    assert [float(share) for _, _, share in shown] == pytest.approx(likeliest, abs=1e-4)


def test_the_likeliest_classes_as_lines_and_as_json(predict):
    three = lines(predict("model", "digits/000.png", "digits/001.png", "--top", "3"))
    assert [file for file, _, _ in three] == ["digits/000.png"] * 3 + ["digits/001.png"] * 3
    shares = [float(share) for _, _, share in three[:3]]
    assert shares == sorted(shares, reverse=True) and len({name for _, name, _ in three[:3]}) == 3
    told = json.loads(predict("model", "digits/000.png", "--top", "99", "--json").stdout)
    assert told[0]["file"] == "digits/000.png" and len(told[0]["classes"]) == 10
    assert sum(each["probability"] for each in told[0]["classes"]) == pytest.approx(1)


def test_the_quantised_model_by_name_or_if_it_is_alone(shipped, predict):
    by_name = predict("model", "digits", "--model", "model.int8.onnx").stdout
    assert by_name != predict("model", "digits").stdout
    shutil.copytree(shipped / "model", shipped / "small")
    (shipped / "small" / "model.onnx").unlink()
    assert predict("small", "digits").stdout == by_name


def test_what_cannot_be_read_is_named_and_the_rest_predicted(shipped, predict):
    (shipped / "text.png").write_text("no image")
    (shipped / "cut.png").write_bytes((shipped / "digits" / "000.png").read_bytes()[:60])
    (shipped / "empty.png").touch()
    done = predict("model", "text.png", "digits/000.png", "cut.png", "empty.png", "gone.png", status=1)
    assert [file for file, _, _ in lines(done)] == ["digits/000.png"]
    told = done.stderr.splitlines()
    assert told[0].startswith("kdsweep-predict: text.png: not an image of a known format (JPEG, PNG, ")
    assert told[2:] == ["kdsweep-predict: empty.png: empty file",
                        "kdsweep-predict: gone.png: No such file or directory"]  # fmt: skip
    assert len(told) == 4
    as_json = json.loads(predict("model", "gone.png", "digits/000.png", "--json", status=1).stdout)
    assert as_json[0] == {"file": "gone.png", "error": "No such file or directory"} and as_json[1]["classes"]


def test_colours_sizes_and_orientation_are_undone_as_in_training(shipped, predict):
    """A photograph of a digit: large, in colour, and on its side."""
    upright = Image.open(shipped / "digits" / "000.png").resize((64, 64), Image.Resampling.NEAREST)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    upright.convert("RGB").transpose(Image.Transpose.ROTATE_90).save(shipped / "photo.png", exif=exif)
    upright.save(shipped / "upright.png")
    photo, plain = lines(predict("model", "photo.png", "upright.png"))
    assert photo[1:] == plain[1:]


def test_grey_images_keep_their_pixels():
    image = np.random.RandomState(0).randint(0, 256, (8, 8)).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "png")
    np.testing.assert_array_equal(decode(stream.getvalue(), Look(8, "squash", "L")).pixels, image[None])
    rgb = decode(stream.getvalue(), Look(8, "squash")).pixels
    np.testing.assert_array_equal(rgb, np.stack([image] * 3))


def test_inputs_are_those_of_training_bit_for_bit():
    import torch
    from helpers import make_dataset

    from kdsweep.training.network import Inputs

    data = make_dataset(shape=(3, 9, 9))
    mean, std = np.array([0.1, 0.2, 0.3], np.float32), np.array([0.3, 0.21, 0.123], np.float32)
    data = type(data)(**{**data.__dict__, "mean": mean, "std": std})
    described = {"name": "x", "shape": data.shape, "resize": "crop", "mean": mean.tolist(),
                 "std": std.tolist(), "classes": data.classes}  # fmt: skip
    trained = Inputs(data.test, data, torch.device("cpu")).batch(torch.arange(24)).numpy()
    np.testing.assert_array_equal(Preprocessing.of(described).inputs(data.test.images), trained)


def test_it_runs_where_there_is_no_torch(shipped):
    code = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "pandas", "hydra", "omegaconf", "mlflow", "pydantic"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
from kdsweep.cli.predict import main
try:
    main()
except SystemExit as stop:
    known = {name.split(".")[0] for name in sys.modules} - set(sys.stdlib_module_names)
    print(stop.code, *sorted(name for name in known if not name.startswith("_")))
"""
    command = [sys.executable, "-c", code, "model", "digits/000.png", "gone.png"]
    done = subprocess.run(command, cwd=shipped, env=environment(), capture_output=True, text=True)
    first, last = done.stdout.splitlines()
    assert first.startswith("digits/000.png\t") and "gone.png: No such file" in done.stderr
    status, *imported = last.split()
    assert status == "1" and {"kdsweep", "numpy", "PIL", "onnxruntime"} <= set(imported)
    assert len(imported) <= 6, imported


def broken(shipped: Path, how: str) -> str:
    folder = shipped / how
    shutil.copytree(shipped / "model", folder, dirs_exist_ok=True)
    if how == "corrupt":
        (folder / "model.onnx").write_bytes(b"no model")
    elif how == "without":
        for file in folder.glob("*.onnx"):
            file.unlink()
    else:
        told = json.loads((folder / "preprocessing.json").read_text())
        told["classes"] = told["classes"][:7]
        (folder / "preprocessing.json").write_text("{" if how == "garbled" else json.dumps(told))
    return how


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "digits"], "nowhere: no such folder; name a folder that kdsweep-export made"),
        (
            ["digits", "digits"],
            "digits: has no preprocessing.json; name a folder that kdsweep-export",
        ),
        (["model", "nothing"], "nothing: no images in this folder"),
        (
            ["model", "digits", "--model", "other.onnx"],
            "no such model; the folder has model.onnx, model.int8.onnx",
        ),
        (["model", "digits", "--top", "0"], "0: must be a whole number, 1 or more"),
        (["without", "digits"], "without: has no model.onnx; make one by kdsweep-export"),
        (["corrupt", "digits"], "corrupt/model.onnx: is not an ONNX model that onnxruntime can read"),
        (
            ["fewer", "digits"],
            "gives 10 classes, but preprocessing.json has [1, 8, 8] and 7",
        ),
        (["garbled", "digits"], "garbled/preprocessing.json: cannot be read"),
    ],
)
def test_mistakes_are_told(shipped, predict, arguments, message):
    (shipped / "nothing").mkdir(exist_ok=True)
    if arguments[0] in ("without", "corrupt", "fewer", "garbled"):
        broken(shipped, arguments[0])
    told = predict(*arguments, status=1).stderr
    assert message in told and "Traceback" not in told


def test_names_of_any_bytes_and_what_is_no_image_of_a_folder(shipped, predict):
    folder = shipped / "odd"
    folder.mkdir()
    for name in (b"caf\xe9.png", b"two\nlines.png", b"._000.png"):
        shutil.copy(shipped / "digits" / "000.png", folder / os.fsdecode(name))
    (folder / "loop").symlink_to(folder)
    (folder / "photo.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    done = predict("model", "odd", status=1)
    assert [file for file, _, _ in lines(done)] == ["odd/caf\\xe9.png", "odd/two\\nlines.png"]
    litter, links, postscript = done.stderr.splitlines()
    assert "1 ._*" in litter and "1 link to folders" in links
    assert postscript.startswith("kdsweep-predict: odd/photo.jpg: not an image of a known format")
    told = json.loads(predict("model", "odd", "--json", status=1).stdout)
    assert os.fsencode(told[0]["file"]) == b"odd/caf\xe9.png", "as JSON the name is whole"
