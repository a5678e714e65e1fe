"""The installed command, what it leaves, and small things to train on."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import pytest
from hydra import compose, initialize_config_module
from mlflow import MlflowClient
from omegaconf import OmegaConf
from PIL import Image
from safetensors import safe_open

from kdsweep.config import Augment, FineTuning, Training
from kdsweep.config.parse import parse
from kdsweep.data.dataset import Dataset
from kdsweep.data.split import Split
from kdsweep.errors import ConfigError
from kdsweep.methods.term import Batch, Setting
from kdsweep.stage import Objective, Stage
from kdsweep.stages.chains import ALONE
from kdsweep.tracking import Run, Tracker

COMMAND = str(Path(sys.executable).parent / "kdsweep")


Command = Callable[..., subprocess.CompletedProcess[str]]


def environment(**changes: str) -> dict[str, str]:
    """The environment without what would change Hydra's messages or MLflow's database."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HYDRA_", "MLFLOW_"))}
    return kept | {"COLUMNS": "200"} | changes


TINY = ("training.epochs=2", "student.model.hidden=[16]", "dataset.train_limit=200", "dataset.test_limit=100")


def make_dataset(
    train: int = 60, val: int = 24, test: int = 24, shape: tuple[int, int, int] = (1, 8, 8)
) -> Dataset:
    """Three classes told apart by which third of the image is bright."""
    random = np.random.RandomState(0)

    def split(count: int) -> Split:
        labels = np.arange(count) % 3
        images = random.randint(0, 120, (count, *shape)).astype(np.uint8)
        third = shape[1] // 3
        for image, label in zip(images, labels, strict=True):
            image[:, label * third : (label + 1) * third] += 80
        return Split(images, np.arange(count), labels.astype(np.int64))

    channels = shape[0]
    ones = np.ones(channels, np.float32)
    return Dataset(split(train), split(val), split(test), ("a", "b", "c"), 0 * ones, ones, "made", "made")


def optimizer(name: str, **options: object) -> dict[str, object]:
    """One of torch's, as a recipe has it."""
    return {"_target_": f"torch.optim.{name}", **options}


def schedule(name: str, **options: object) -> dict[str, object]:
    return {"_target_": f"torch.optim.lr_scheduler.{name}", **options}


RECIPE = Training(
    epochs=4, batch_size=16, optimizer=optimizer("Adam"), learning_rate=0.003,
    schedule=schedule("ConstantLR", factor=1.0),
    keep="best", monitor="val/accuracy", patience=None, mixed_precision=False, trainable="all",
    fine_tuning=FineTuning(epochs=0, learning_rate=1e-5, trainable="all"),
)  # fmt: skip


MLP = {"_target_": "kdsweep.networks.zoo.mlp.MLP", "hidden": [16]}


CNN = {"_target_": "kdsweep.networks.zoo.mnist_cnn.MnistCNN", "conv_dropout": 0.3, "dense_dropout": 0.3}


NO_AUGMENT = Augment()


def labels_and(alpha: float = 0.5, **terms: dict[str, object]) -> Objective:
    """Labels with the weight alpha, and terms of the teacher with the rest, as a plan has them."""
    labels = {"labels": {**ALONE["labels"], "weight": alpha}} if alpha else {}
    return {**labels, **{name: {"weight": 1 - alpha, **term} for name, term in terms.items()}}


def kd_objective(temperature: float = 4.0, alpha: float = 0.5, **options: object) -> Objective:
    target = "kdsweep.methods.logits.kd.kd"
    return labels_and(alpha, kd={"_target_": target, "temperature": temperature, **options})


def make_stage(
    model: dict[str, object] = MLP,
    objective: Objective | None = None,
    parents: tuple[Stage, ...] = (),
    seed: int = 0,
    augment: Augment = NO_AUGMENT,
    **recipe: object,
) -> Stage:
    data = {"fingerprint": "made", "augment": augment.effective()}
    training = RECIPE.model_copy(update=recipe)
    return Stage(data, model, training, objective or ALONE, seed, parents)


def setting_of(batch: Batch, num_classes: int) -> Setting:
    """What terms are made for where a batch is all that there is."""
    size = len(batch.labels)
    return Setting(len(batch.teachers), batch.labels, num_classes, size, lambda: batch, lambda: iter([batch]))


def client(folder) -> MlflowClient:
    return MlflowClient(f"sqlite:///{folder}/mlflow.db")


def runs(folder, filter_string: str = "") -> list[mlflow.entities.Run]:
    tracker = client(folder)
    experiment = tracker.get_experiment_by_name("kdsweep")
    return tracker.search_runs([experiment.experiment_id], filter_string, order_by=["attributes.start_time"])


def sweep_folder(tmp_path):
    (file,) = tmp_path.glob("multirun/*/*/sweep.json")
    return file.parent


def artifacts(folder, run: mlflow.entities.Run) -> set[str]:
    return {each.path for each in client(folder).list_artifacts(run.info.run_id)}


ROOT = Path(__file__).parent.parent  # of the clone
CONF = ROOT / "conf"


def composed(*overrides: str):
    with initialize_config_module("kdsweep.conf"):
        return compose("config", list(overrides))


def literal(value: object) -> str:
    """A value as Hydra's overrides write it."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{literal(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(literal, value)) + "]"
    return str(value)


def mistakes(*overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        parse(composed(*overrides))
    return str(error.value).splitlines()


def one_of(word: str) -> str:
    """The first value of a swept one, the lower end of an interval."""
    if "interval(" in word:
        return f"{word.split('=')[0]}={word.split('interval(')[1].split(',')[0]}"
    return re.sub(r"range\(\d\)", "0", word).split(",")[0] if not re.search(r"=[\[{]", word) else word


def write_images(folder: Path, count: int, side: int = 20) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.RandomState(len(str(folder)))
    names = [f"{i}.png" for i in range(count)]
    for name in names:
        Image.fromarray(random.randint(0, 256, (side, side, 3)).astype(np.uint8)).save(folder / name)
    return names


LONG = (
    "method=scratch",
    "training.epochs=100",
    "training.batch_size=16",
    "student.model.hidden=[128]",
    "hardware.together=off",  # one after another, though they be faster in one pass
)


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [COMMAND, *arguments],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # tests run by nohup ignore it
    )


def epochs_done(folder: Path) -> int:
    for file in folder.glob("kdsweep-store/unfinished/*/checkpoint.safetensors"):
        with safe_open(file, framework="np") as stored:
            return json.loads(stored.metadata()["progress"])["epoch"]
    return 0


def stop_in_training(process: subprocess.Popen[str], folder: Path, sign: signal.Signals) -> None:
    """Signal the process, and Ctrl-C its workers too, as a terminal does."""
    deadline = time.monotonic() + 120
    while epochs_done(folder) < 1:  # checkpoints of short epochs are few
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, sign) if sign == signal.SIGINT else process.send_signal(sign)
    process.wait(timeout=60)


def left_of(process: subprocess.Popen[str]) -> list[str]:
    """What still lives of the processes that `start` has started."""
    listed = ["ps", "-o", "stat=,args=", "--sid", str(process.pid)]
    lines = subprocess.run(listed, capture_output=True, text=True).stdout.splitlines()
    return [line for line in lines if not line.startswith("Z")]


def model_of(file: str) -> dict:
    return OmegaConf.to_container(OmegaConf.load(CONF / file), resolve=True)["model"]


def begin(tracker: Tracker) -> Run:
    return Run(tracker, "name", {"temperature": 4.0})
