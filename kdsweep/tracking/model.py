"""A student as an MLflow model of its run, and its versions in the registry."""

import base64
import json
import platform
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import OmegaConf

from kdsweep.tracking.client import connect

if TYPE_CHECKING:
    from mlflow import MlflowClient

MODEL = "model"  # its name: runs:/ID/model
ALIAS = "best"
EXAMPLE = "input_example.json"
ACCURACY_TAG, DATA_TAG = "kdsweep.val_accuracy", "kdsweep.data"


@dataclass(frozen=True)
class Loggable:
    """A model to log: how its data are written into a folder, and what loads them.

    `loader` is a module with `_load_pyfunc`; `column` is the input's, of image files as bytes, and `example`
    one of them; `requirements` are pip's.
    """

    write: Callable[[Path], None]
    loader: str
    column: str
    example: bytes
    requirements: Sequence[str]


def log_model(uri: str, run_id: str, model: Loggable) -> str:
    """Log the model into a run, ended or not; its id. Raises whatever MLflow does.

    By MLflow's client and not its `log_model`, which needs the server to be the process's only one, looks
    through all installed packages for two seconds, and takes along a uv.lock that lies around.
    """
    client = connect(uri)
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    run = client.get_run(run_id)
    for known in run.outputs.model_outputs if run.outputs else ():  # a search that went on has the same best
        if client.get_logged_model(known.model_id).status == LoggedModelStatus.READY:
            return str(known.model_id)
    logged = client.create_logged_model(run.info.experiment_id, MODEL, run_id, model_type="classifier")
    try:
        with tempfile.TemporaryDirectory(prefix="kdsweep-") as there:
            _save(Path(there), model, logged.artifact_location, run_id, logged.model_id)
            client.log_model_artifacts(logged.model_id, there)
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, 0)])
        client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
    except BaseException:
        with suppress(Exception):
            client.finalize_logged_model(logged.model_id, LoggedModelStatus.FAILED)
        raise
    return str(logged.model_id)


def _save(folder: Path, model: Loggable, location: str, run_id: str, model_id: str) -> None:
    """Write the files of an MLflow model: MLmodel, data, environment, example.

    `pyfunc.save_model` writes the same files, but takes seconds to look through all installed packages.
    """
    from mlflow import __version__, pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types.schema import Array, ColSpec, DataType, Schema

    (folder / "data").mkdir()
    model.write(folder / "data")
    table = {"columns": [model.column], "data": [[base64.b64encode(model.example).decode()]]}
    (folder / EXAMPLE).write_text(json.dumps(table))
    (folder / f"serving_{EXAMPLE}").write_text(json.dumps({"dataframe_split": table}))
    requirements = [f"mlflow=={__version__}", *model.requirements]
    (folder / "requirements.txt").write_text("\n".join(requirements) + "\n", "utf-8")
    python = platform.python_version()
    environment = {"python": python, "dependencies": ["-r requirements.txt"]}
    conda = {"channels": ["conda-forge"], "dependencies": [f"python={python}", "pip", {"pip": requirements}]}
    for name, told in (("python_env.yaml", environment), ("conda.yaml", {"name": "mlflow-env", **conda})):
        (folder / name).write_text(OmegaConf.to_yaml(OmegaConf.create(told)), "utf-8")
    described = Model(artifact_path=location, run_id=run_id, model_uuid=model_id, model_id=model_id)
    described.signature = ModelSignature(
        Schema([ColSpec(DataType.binary, model.column)]),
        Schema(
            [
                ColSpec(DataType.string, "class"),
                ColSpec(DataType.double, "probability"),
                ColSpec(Array(DataType.double), "probabilities"),
            ]
        ),
    )
    described.saved_input_example_info = {
        "artifact_path": EXAMPLE,
        "serving_input_path": f"serving_{EXAMPLE}",
        "type": "dataframe",
        "pandas_orient": "split",
    }
    described.model_size_bytes = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    pyfunc.add_to_model(
        described, model.loader, data="data", conda_env="conda.yaml", python_env="python_env.yaml"
    )
    described.save(str(folder / "MLmodel"))


def register(
    uri: str, name: str, model_id: str, run_id: str, accuracy: float, data: str, tags: Mapping[str, str]
) -> str:
    """Register a logged model as a new version of `name`; what came of it, in a line. Raises as MLflow does.

    The alias `best` goes to it if its validation accuracy is higher than that of the version that has the
    alias, on the same `data`; accuracies on other data say nothing.
    """
    client = connect(uri)
    from mlflow.exceptions import MlflowException

    with suppress(MlflowException):  # there already
        client.create_registered_model(name)
    told = {**tags, ACCURACY_TAG: str(accuracy), DATA_TAG: data}
    # not models:/ID, which a database looks up in the process's default MLflow
    source = client.get_logged_model(model_id).artifact_location
    version = client.create_model_version(
        name, source, run_id, told, model_id=model_id, await_creation_for=0
    ).version
    why = _why_not_best(client, name, accuracy, data)
    if why:
        return f"registered as {name}, version {version}; {why}"
    client.set_registered_model_alias(name, ALIAS, version)
    return f"registered as {name}, version {version}, alias {ALIAS}"


def _why_not_best(client: "MlflowClient", name: str, accuracy: float, data: str) -> str | None:
    """Why the alias stays where it is, if it does."""
    version = client.get_registered_model(name).aliases.get(ALIAS)
    if version is None:
        return None
    best = client.get_model_version(name, version)
    if best.tags.get(DATA_TAG) != data:
        other = "is of other data" if DATA_TAG in best.tags else "does not tell its data"
        return f"alias {ALIAS} stays with version {best.version}, which {other}"
    before = float(best.tags.get(ACCURACY_TAG, "0"))
    if accuracy > before:
        return None
    return f"alias {ALIAS} stays with version {best.version}, whose validation accuracy is {before:.2%}"
