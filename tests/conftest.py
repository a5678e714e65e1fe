"""The installed command in a folder of its own, and small things to train on."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from kdsweep.config import Augment, FineTuning, Training
from kdsweep.data import Dataset
from kdsweep.data.dataset import Split
from kdsweep.stage import Objective, Stage

settings.register_profile("noisy machine", deadline=None, max_examples=50)
settings.load_profile("noisy machine")


def pytest_configure() -> None:
    """Each of pytest-xdist's workers has a core of its own: threads that share one wait for each other.

    And Ctrl-C reaches what tests start, though a shell have started the tests in the background.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


COMMAND = str(Path(sys.executable).parent / "kdsweep")
Command = Callable[..., subprocess.CompletedProcess[str]]


def environment(**changes: str) -> dict[str, str]:
    """The environment without what would change Hydra's messages or MLflow's database."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HYDRA_", "MLFLOW_"))}
    return kept | {"COLUMNS": "200"} | changes


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """MLflow's database, made once: making it is half of what a short command takes.

    A deleted run tells that it is in use.
    """
    from mlflow import MlflowClient

    file = tmp_path_factory.mktemp("database") / "mlflow.db"
    client = MlflowClient(f"sqlite:///{file}")
    client.delete_run(client.create_run("0").info.run_id)
    return file


@pytest.fixture
def kdsweep(tmp_path: Path, database: Path | None) -> Command:
    """Runs the installed command in the test's folder; `status` is what it must exit with."""

    def run(*arguments: str, status: int = 0, **changes: str) -> subprocess.CompletedProcess[str]:
        if (
            database
            and not status
            and "plan=true" not in arguments
            and not (tmp_path / database.name).exists()
        ):
            shutil.copy(database, tmp_path)
        done = subprocess.run(
            [COMMAND, *arguments], cwd=tmp_path, env=environment(**changes), capture_output=True, text=True
        )
        assert done.returncode == status, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run


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


RECIPE = Training(
    epochs=4, batch_size=16, optimizer="adam", learning_rate=0.003, weight_decay=0.0, momentum=0.9,
    nesterov=False, schedule="constant", milestones=[], gamma=0.1, keep="best", monitor="val/accuracy",
    patience=None, mixed_precision=False, trainable="all",
    fine_tuning=FineTuning(epochs=0, learning_rate=1e-5, trainable="all"),
)  # fmt: skip

MLP = {"_target_": "kdsweep.networks.zoo.mlp.MLP", "hidden": [16]}
CNN = {"_target_": "kdsweep.networks.zoo.mnist_cnn.MnistCNN", "conv_dropout": 0.3, "dense_dropout": 0.3}
NO_AUGMENT = Augment()


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
    return Stage(data, model, training, objective or Objective("cross_entropy"), seed, parents)
