"""The student as MLflow's model: it takes raw image files, and its best version has an alias."""

import base64
import io
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import numpy as np
import pandas
import pytest
from helpers import TINY, Command, environment
from mlflow import MlflowClient
from PIL import Image

from kdsweep.cli.records import read
from kdsweep.config import Tracking
from kdsweep.data.arrays import read_arrays
from kdsweep.errors import ConfigError
from kdsweep.export.logged import log_student
from kdsweep.results.result import JobResult


def client(folder: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{folder}/mlflow.db")


@pytest.fixture
def tracked(tmp_path: Path):
    """The test's database, for MLflow's own functions."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    yield
    mlflow.set_tracking_uri(before)


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png")
    return stream.getvalue()


@pytest.mark.long
def test_of_a_sweep_the_best_student_takes_raw_images(kdsweep: Command, tmp_path, tracked):
    shown = kdsweep("-m", "temperature=1,4", "register=digits", "hydra.sweep.dir=sweep", *TINY).stdout
    best = min(JobResult.load_all(tmp_path / "sweep"), key=JobResult.order)
    assert f"  runs:/{best.run_id}/model" in shown
    assert "  registered as digits, version 1, alias best" in shown
    version = client(tmp_path).get_model_version_by_alias("digits", "best")
    assert (version.run_id, version.tags["kdsweep.stage"]) == (best.run_id, best.student.key)
    assert float(version.tags["kdsweep.val_accuracy"]) == best.val.accuracy
    others = [result for result in JobResult.load_all(tmp_path / "sweep") if result.run_id != best.run_id]
    for result in others:  # not every job pays
        assert not client(tmp_path).get_run(result.run_id).outputs.model_outputs

    model = mlflow.pyfunc.load_model(f"runs:/{best.run_id}/model")
    images, labels = (
        getattr(read_arrays("digits", "").test.take(slice(100)), n) for n in ("images", "labels")
    )
    given = pandas.DataFrame({"image": [png(image[0]) for image in images]})
    told = model.predict(given)
    right = (told["class"].astype(int).to_numpy() == labels).mean()
    assert right == best.student.test.accuracy
    assert np.allclose(told["probability"], [max(each) for each in told["probabilities"]])
    larger = png(np.kron(images[0][0], np.ones((9, 9), np.uint8)))
    assert model.predict(pandas.DataFrame({"image": [larger]}))["class"][0] == told["class"][0]
    with pytest.raises(ValueError, match="image 1: not an image of a known format"):
        model.predict(pandas.DataFrame({"image": [larger, b"text"]}))
    example = mlflow.pyfunc.load_model("models:/digits@best").input_example
    assert Image.open(io.BytesIO(example["image"][0])).size == (8, 8)
    assert len(model.predict(example)) == 1

    # as a program that knows nothing of kdsweep's classes: JSON in, JSON out
    table = {"columns": ["image"], "data": [[base64.b64encode(given["image"][0]).decode()]]}
    (tmp_path / "in.json").write_text(json.dumps({"dataframe_split": table}))
    command = [str(Path(sys.executable).parent / "mlflow"), "models", "predict", "-m", "models:/digits@best",
               "--env-manager", "local", "-i", "in.json"]  # fmt: skip
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(MLFLOW_TRACKING_URI=uri), capture_output=True, text=True
    )
    assert json.loads(done.stdout)["predictions"][0]["class"] == told["class"][0], done.stderr


def test_a_job_alone_logs_its_student_and_pickles_nothing(kdsweep: Command, tmp_path, tracked):
    shown = kdsweep("method=scratch", *TINY).stdout
    (run_id,) = re.findall(r"^  runs:/(\w+)/model$", shown, re.M)
    folder = Path(mlflow.artifacts.download_artifacts(f"runs:/{run_id}/model"))
    files = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    data = {"data/model.safetensors", "data/network.json", "data/preprocessing.json"}
    told = {"MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt", "input_example.json"}
    assert files - {"registered_model_meta"} == data | told | {"serving_input_example.json"}
    assert {"mlflow", "kdsweep", "torch"} <= {
        line.split("==")[0] for line in (folder / "requirements.txt").read_text().splitlines()
    }
    assert not client(tmp_path).search_registered_models()
    model = mlflow.pyfunc.load_model(f"runs:/{run_id}/model")
    assert [each.name for each in model.metadata.signature.inputs] == ["image"]
    assert [each.name for each in model.metadata.signature.outputs] == [
        "class",
        "probability",
        "probabilities",
    ]


@pytest.mark.long
def test_the_alias_goes_to_the_better_version_of_the_same_data(kdsweep: Command, tmp_path, monkeypatch):
    kdsweep("method=scratch", "hydra.run.dir=job", *TINY)
    monkeypatch.chdir(tmp_path)
    (record,) = read("job", "")
    tracking = Tracking(uri=f"sqlite:///{tmp_path}/mlflow.db", experiment="kdsweep")
    (result,) = record.results

    def logged(accuracy: float, data: str = "same") -> str:
        result.student.val.accuracy = accuracy
        result.dataset["fingerprint"] = data
        return log_student(record.sweep, [result], tracking, "small")[1]

    assert logged(0.5) == "registered as small, version 1, alias best"
    assert logged(0.5).endswith("alias best stays with version 1, whose validation accuracy is 50.00%")
    assert logged(0.6) == "registered as small, version 3, alias best"
    assert logged(0.9, "other").endswith("alias best stays with version 3, which is of other data")
    assert int(client(tmp_path).get_model_version_by_alias("small", "best").version) == 3
    start = time.perf_counter()
    logged(0.4)
    assert time.perf_counter() - start < 5  # a tenth of a second where the machine has nothing else to do


def test_mlflow_lost_at_the_end_is_told_and_harms_nothing(kdsweep: Command, tmp_path, monkeypatch, caplog):
    kdsweep("method=scratch", "hydra.run.dir=job", *TINY)
    monkeypatch.chdir(tmp_path)
    (record,) = read("job", "")
    nowhere = Tracking(uri="http://127.0.0.1:9", experiment="kdsweep")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert log_student(record.sweep, record.results, nowhere, "small") == []
    assert "the student is not logged as an MLflow model: " in caplog.text
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("name", ["a/b", "a:b", " ", ".."])
def test_names_that_the_registry_does_not_take_are_refused_before_anything_runs(name):
    from helpers import composed

    from kdsweep.config.parse import parse

    with pytest.raises(ConfigError, match=re.escape(f"register={name}: must be a name without / and :")):
        parse(composed(f"register='{name}'"))
