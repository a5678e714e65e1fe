"""`kdsweep-export`: what goes out of a sweep, in which formats, and what is refused."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import CNN, COMMAND, TINY, Command, environment
from omegaconf import OmegaConf

from kdsweep.cli.records import read
from kdsweep.config import Tracking
from kdsweep.data.arrays import read_arrays
from kdsweep.errors import KdsweepError
from kdsweep.export.chosen import choose
from kdsweep.export.export import Exported, Order, export
from kdsweep.export.folder import load
from kdsweep.export.formats import FORMATS, write_and_compare
from kdsweep.export.predict import open_session
from kdsweep.networks.build import build
from kdsweep.results.result import JobResult


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a sweep over two temperatures was run, its own folder being `sweep`."""
    folder = tmp_path_factory.mktemp("swept")
    done = subprocess.run(
        [COMMAND, "-m", "temperature=1,4", "hydra.sweep.dir=sweep", *TINY],
        cwd=folder, env=environment(), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def out(swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that an export may make."""
    monkeypatch.chdir(swept)
    return tmp_path / "shipped"


@pytest.fixture
def tool(swept: Path) -> Command:
    def run(*arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [f"{COMMAND}-export", *arguments], cwd=swept, env=environment(), capture_output=True, text=True
        )
        assert done.returncode == status, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run


def tracking(swept: Path) -> Tracking:
    return Tracking(uri=f"sqlite:///{swept}/mlflow.db", experiment="kdsweep")


def exported(swept: Path, out: Path, *kinds: str, named: str = "sweep", **order: object) -> Exported:
    records = read(named, tracking(swept).uri)
    return export(records, Order(list(kinds), out, **order), tracking(swept))  # type: ignore[arg-type]


def best(swept: Path) -> JobResult:
    return min(JobResult.load_all(swept / "sweep"), key=JobResult.order)


def test_images() -> tuple[np.ndarray, np.ndarray]:
    test = read_arrays("digits", "").test.take(slice(100))  # dataset.test_limit
    return test.images, test.labels


test_images.__test__ = False  # type: ignore[attr-defined]


def weights_of(folder: Path, key: str) -> Path:
    return folder / "kdsweep-store" / key / "weights.safetensors"


@pytest.mark.long
def test_the_best_student_in_every_format(swept, out, tool):
    """The command as it is typed; the figures it prints are recomputed here."""
    kinds = ("onnx", "torch-export", "torchscript", "safetensors")
    shown = tool("sweep", "--to", *kinds, "--quantize", "static", "--out", str(out)).stdout
    result = best(swept)
    network = result.networks["student"]
    assert f"small_mlp, student of {result.name}: val {network.val.accuracy:.2%}" in shown
    models = {"model.onnx", "model.int8.onnx", "model.pt2", "model.torchscript.pt", "model.safetensors"}
    told = {"preprocessing.json", "network.json", "README.md"}
    assert {file.name for file in out.iterdir()} == models | told
    assert (out / "model.safetensors").read_bytes() == weights_of(swept, network.key).read_bytes()

    images, labels = test_images()
    inputs = torch.from_numpy(images).float() / 255
    opened = {
        "torch-export": torch.export.load(out / "model.pt2").module(),
        "torchscript": torch.jit.load(str(out / "model.torchscript.pt")),
        "safetensors": load(out),
    }
    with torch.no_grad():
        logits = {kind: opened[kind](inputs).numpy() for kind in opened}
    for file in ("model.onnx", "model.int8.onnx"):
        logits[file] = open_session(out / file).run(None, {"images": inputs.numpy()})[0]
    for kind in ("torch-export", "torchscript", "model.onnx"):
        np.testing.assert_allclose(logits[kind], logits["safetensors"], atol=1e-5)
    assert (logits["model.int8.onnx"] != logits["model.onnx"]).any()
    accuracy = (logits["safetensors"].argmax(axis=1) == labels).mean()
    assert accuracy == network.test.accuracy
    for file in ("model.onnx", "model.int8.onnx"):
        accuracy = (logits[file].argmax(axis=1) == labels).mean()
        assert re.search(rf"{re.escape(file)}.*: test accuracy {accuracy:.2%}, [\d.]+ MB", shown), shown
    assert len(re.findall(r"by at most [\de.-]+ and [\de.-]+ in a batch of 1 and a batch of 64", shown)) == 3


@pytest.mark.long
def test_the_card_tells_what_a_hub_and_a_person_want_to_know(swept, out):
    exported(swept, out, "onnx", quantize="dynamic")
    _, head, body = (out / "README.md").read_text().split("---\n", 2)
    front = OmegaConf.to_container(OmegaConf.create(head))
    result = best(swept)
    student, teacher = result.networks["student"], result.networks["teacher"]
    assert front["pipeline_tag"] == "image-classification" and front["datasets"] == ["digits"]
    (figures,) = front["model-index"][0]["results"]
    values = {each["type"]: each["value"] for each in figures["metrics"]}
    assert values["accuracy"] == pytest.approx(student.test.accuracy, abs=1e-6)
    for told in (
        f"distilled (kd) from mnist_cnn (test accuracy {teacher.test.accuracy:.2%}).",
        f"| parameters | {student.cost.parameters:,} | {teacher.cost.parameters:,} |",
        f"| temperature | {result.swept['temperature']} |",
        "## Intended use", "## Licence", "<!-- fill in -->", "optimizer torch.optim.Adam(betas=",
        "kdsweep-predict . IMAGE…",
        "kdsweep -m temperature=1,4 hydra.sweep.dir=sweep", result.dataset["fingerprint"], student.key,
    ):  # fmt: skip
        assert told in body, told
    assert "safetensors" not in body.split("## Intended use")[0]


def test_the_worth_of_eight_bits_is_what_it_is_on_the_test_split(swept, out):
    done = exported(swept, out, "onnx", quantize="dynamic")
    images, labels = test_images()
    inputs = {"images": (images / 255).astype(np.float32)}
    for file, worth in done.worth.items():
        right = open_session(out / file).run(None, inputs)[0].argmax(axis=1) == labels
        assert (worth.accuracy, worth.bytes) == (right.mean(), (out / file).stat().st_size)
    assert done.worth.keys() == {"model.onnx", "model.int8.onnx"}
    assert done.worth["model.int8.onnx"].bytes < done.worth["model.onnx"].bytes


def test_a_job_a_role_and_a_run(swept, out):
    worst = max(JobResult.load_all(swept / "sweep"), key=JobResult.order)
    done = exported(swept, out, "safetensors", job=worst.number)
    assert (done.job, done.run_id) == (worst.number, worst.run_id)
    assert exported(swept, out / "1", "safetensors", named=f"sweep/{worst.number}").job == worst.number
    assert exported(swept, out / "2", "safetensors", named=str(worst.run_id)).run_id == worst.run_id
    assert exported(swept, out / "3", "safetensors", named="kdsweep").run_id == best(swept).run_id
    teacher = exported(swept, out / "4", "safetensors", role="teacher")
    assert teacher.network.startswith("mnist_cnn, teacher")
    assert json.loads((out / "4" / "network.json").read_text())["model"]["_target_"].endswith("MnistCNN")


def test_from_mlflow_alone_a_student_can_be_had_and_a_teacher_cannot(swept, out, tmp_path):
    """As on another machine: no store, no folder of the sweep."""
    for name in ("mlflow.db", "mlruns"):
        source = swept / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    (swept / "kdsweep-store").rename(swept / "away")
    try:
        run_id = str(best(swept).run_id)
        done = exported(swept, out, "safetensors", named=run_id)
        assert done.run_id == run_id
        with pytest.raises(KdsweepError, match=r"are not in the store .* MLflow has only the student's"):
            exported(swept, tmp_path / "teacher", "safetensors", named=run_id, role="teacher")
    finally:
        (swept / "away").rename(swept / "kdsweep-store")
    assert (out / "model.safetensors").read_bytes() == weights_of(swept, best(swept).student.key).read_bytes()
    assert not (tmp_path / "teacher").exists()


def test_without_the_data_set_noise_is_compared_and_nothing_quantised(swept, out, monkeypatch):
    (record,) = read("sweep", "")
    for result in record.results:
        result.dataset["config"] |= {"source": "mnist", "root": "/nowhere"}
    done = export([record], Order(["torchscript"], out), tracking(swept))
    assert done.compared_on.startswith(
        "noise, because the data set is unavailable (/nowhere: has no MNIST/raw"
    )
    with pytest.raises(KdsweepError, match="--quantize static: needs the data set to measure the accuracy"):
        export([record], Order(["onnx"], out / "2", quantize="static"), tracking(swept))
    assert not (out / "2").exists()


def test_what_is_there_is_not_overwritten_but_by_force(swept, out):
    out.mkdir()
    exported(swept, out, "torchscript")  # an empty folder is no harm
    with pytest.raises(
        KdsweepError, match="holds an export; choose another folder, or replace it by --force"
    ):
        exported(swept, out, "safetensors")
    exported(swept, out, "safetensors", force=True)
    assert (out / "model.safetensors").exists() and not (out / "model.torchscript.pt").exists()
    (out / "preprocessing.json").unlink()
    with pytest.raises(KdsweepError, match="already exists and is not an export folder"):
        exported(swept, out, "safetensors", force=True)
    assert [file.name for file in out.parent.iterdir()] == ["shipped"]


def test_an_export_that_fails_leaves_the_one_before(swept, out, monkeypatch):
    exported(swept, out, "safetensors")
    monkeypatch.setattr("kdsweep.export.formats.TOLERANCE", -1.0)
    with pytest.raises(KdsweepError, match="--to torchscript: the exported network gives other logits"):
        exported(swept, out, "torchscript", force=True)
    assert (out / "model.safetensors").exists()
    assert [file.name for file in out.parent.iterdir()] == ["shipped"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "--to", "onnx"], "nowhere: no sweep of that name"),
        (["sweep", "--to", "tflite"], "invalid choice: 'tflite'"),
        (["sweep", "--to", "onnx", "--role", "assistant1"], "allowed: teacher, scratch, student"),
        (["sweep", "--to", "onnx", "--job", "7"], "--job 7: no such job has finished; allowed: 0, 1"),
        (["sweep", "--to", "torchscript", "--quantize", "static"], "needs --to onnx"),
        (
            ["sweep", "--to", "onnx", "--out", "sweep"],
            "--out sweep: already exists and is not an export folder",
        ),
    ],
)
def test_mistakes_are_told(tool, swept, tmp_path, arguments, message):
    if "--out" not in arguments:
        arguments = [*arguments, "--out", str(tmp_path / "shipped")]
    told = tool(*arguments, status=1).stderr
    assert message in told and "Traceback" not in told
    assert not (tmp_path / "shipped").exists()


def test_jobs_of_several_data_sets_have_no_best(swept):
    (record,) = read(str(swept / "sweep"), "")
    first = record.results[0]
    first.dataset |= {"name": "mnist", "test_fingerprint": "other"}
    first.recipe["dataset"] = "mnist"
    with pytest.raises(
        KdsweepError, match=r"several data sets \((mnist, digits|digits, mnist)\).*choose one by --job N"
    ):
        choose([record])
    assert choose([record], job=0).result.dataset["name"] == "mnist"


def test_seeds_with_splits_of_their_own_are_one_data_set(swept):
    (record,) = read(str(swept / "sweep"), "")
    for i, result in enumerate(record.results):
        result.dataset["fingerprint"] = f"split {i}"
    assert choose([record]).result.run_id == best(swept).run_id


NETWORKS = {
    "mlp": {"_target_": "kdsweep.networks.zoo.mlp.MLP", "hidden": [8]},
    "mnist_cnn": CNN,
    "layers": {"_target_": "kdsweep.networks.zoo.layers.Layers",
               "layers": [{"conv": 4}, "relu", {"maxpool": 3, "padding": "same"}, "batch_norm",
                          "global_maxpool", {"dense": 8}]},
    "resnet": {"_target_": "kdsweep.networks.zoo.resnet.SmallResNet", "depth": 8},
    "resnet18": {"_target_": "kdsweep.networks.zoo.resnet18.ResNet18"},
    "resnet50": {"_target_": "kdsweep.networks.zoo.resnet50.ResNet50"},
    "shufflenet_v1": {"_target_": "kdsweep.networks.zoo.shufflenet_v1.ShuffleNetV1"},
    "shufflenet_v2": {"_target_": "kdsweep.networks.zoo.shufflenet_v2.ShuffleNetV2"},
    "mobilenet_v2": {"_target_": "kdsweep.networks.zoo.mobilenet_v2.MobileNetV2"},
    "vgg": {"_target_": "kdsweep.networks.zoo.vgg.VGG"},
    "wrn": {"_target_": "kdsweep.networks.zoo.wrn.WideResNet", "depth": 10},
    "timm": {"_target_": "kdsweep.networks.library.timm", "architecture": "test_resnet"},
    "torchvision": {"_target_": "kdsweep.networks.library.torchvision", "architecture": "resnet18"},
}  # fmt: skip


QUICK = ("mlp", "layers")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.long) for name in NETWORKS]
)
def test_every_network_goes_out_with_batches_of_any_size(tmp_path, name):
    torch.manual_seed(0)
    network = build(NETWORKS[name], 3, (3, 32, 32)).eval()
    batches = [torch.rand(size, 3, 32, 32) for size in (1, 5)]
    for kind in FORMATS:
        differences = write_and_compare(network, kind, tmp_path, batches)
        assert max(differences) < 1e-3
        assert not list(tmp_path.glob("*.data")), "one file"
    (given,) = open_session(tmp_path / "model.onnx").get_inputs()
    assert given.shape[1:] == [3, 32, 32] and isinstance(given.shape[0], str)


class ByBatch(torch.nn.Module):
    """A network that decides by the content of its images, which no exporter follows."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)[:, :3] * (2 if images.sum() > 1 else 1)


def test_a_network_that_cannot_be_exported_is_told_in_a_line(tmp_path):
    with pytest.raises(KdsweepError, match="--to torch-export: this network cannot be exported: ") as told:
        write_and_compare(ByBatch().eval(), "torch-export", tmp_path, [torch.ones(2, 3, 4, 4)])
    assert "\n" not in str(told.value)


OWN = {"nets/__init__.py": "", "nets/small.py": """
from torch import nn
from nets.parts import activation

class Small(nn.Sequential):
    def __init__(self, num_classes, in_channels, image_size):
        features = in_channels * image_size[0] * image_size[1]
        super().__init__(nn.Flatten(), nn.Linear(features, 16), activation(), nn.Linear(16, num_classes))
""", "nets/parts.py": "from torch import nn\nactivation = nn.GELU\n"}  # fmt: skip


@pytest.mark.long
def test_a_network_of_ones_own_takes_its_code_along(kdsweep: Command, tmp_path):
    for name, text in OWN.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    kdsweep("method=scratch", "student.model._target_=nets.small.Small", "~student.model.hidden",
            "hydra.run.dir=job", "training.epochs=1", "register=own")  # fmt: skip

    def ship(status: int, *arguments: str) -> str:
        done = subprocess.run(
            [f"{COMMAND}-export", "job", "--out", "shipped", *arguments],
            cwd=tmp_path, env=environment(), capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == status, done.stderr
        return done.stderr

    ship(0, "--to", "safetensors", "torchscript")
    copied = {
        str(file.relative_to(tmp_path / "shipped" / "code")) for file in tmp_path.glob("shipped/code/**/*.py")
    }
    assert copied == OWN.keys()
    (tmp_path / "nets" / "parts.py").write_text("from torch import nn\nactivation = nn.ReLU\n")
    told = ship(1, "--to", "onnx", "--force")
    assert "the code of nets.small.Small has changed since it was trained" in told
    shutil.rmtree(tmp_path / "nets")
    assert "the code of nets.small.Small cannot be found here" in ship(1, "--to", "onnx", "--force")

    # elsewhere, from what was shipped and from MLflow's model
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    code = f"""
import mlflow, torch
from kdsweep.export.folder import load
network = load({str(tmp_path / "shipped")!r})
inputs = torch.rand(3, 1, 8, 8)
script = torch.jit.load({str(tmp_path / "shipped" / "model.torchscript.pt")!r})
assert torch.allclose(network(inputs), script(inputs), atol=1e-5)
assert "GELU" in str(network)
mlflow.set_tracking_uri({f"sqlite:///{tmp_path}/mlflow.db"!r})
model = mlflow.pyfunc.load_model("models:/own@best")
print(model.predict(model.input_example)["class"][0])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=elsewhere, env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.strip().isdigit(), done.stderr
