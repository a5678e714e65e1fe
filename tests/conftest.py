"""The installed command in a folder of its own, and small things to train on."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from dying import DYING
from helpers import COMMAND, Command, environment
from hypothesis import settings

from kdsweep.config import Tracking
from kdsweep.store.store import Store
from kdsweep.tracking import Tracker

# The same examples in every run; `pytest --hypothesis-profile=explore` looks at new ones.
settings.register_profile("fixed", deadline=None, max_examples=50, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=500)
settings.load_profile("fixed")


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


@pytest.fixture
def one_thread() -> Iterator[None]:
    """With several, the last bits may differ where a machine is busy; and these trainings are small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def tracker(tmp_path: Path) -> Tracker:
    return Tracker(
        Tracking(uri=f"sqlite:///{tmp_path}/mlflow.db", experiment="test"), Store(tmp_path / "store")
    )


@pytest.fixture
def server(tmp_path: Path):
    """A real MLflow server on loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        str(Path(sys.executable).parent / "mlflow"),
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    process = subprocess.Popen(
        [*command, "--backend-store-uri", f"sqlite:///{tmp_path}/server.db", "--workers", "1"],
        cwd=tmp_path, env=environment(), start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    for _ in range(600):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health")
            break
        except OSError:
            time.sleep(0.1)

    def stop() -> None:
        if process.poll() is None:
            os.killpg(process.pid, 9)
            process.wait()

    yield f"http://127.0.0.1:{port}", stop
    stop()


CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright, of the extra dev")
    if not CHROMIUM.exists():
        pytest.skip(f"needs {CHROMIUM}: apt-get install chromium")
    with api.sync_playwright() as playwright:
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=sandbox)
        yield browser
        browser.close()


@pytest.fixture
def network(tmp_path):
    """A student of two steps an epoch that does what files tell it."""
    (tmp_path / "dying.py").write_text(DYING)
    folder = tmp_path / "my_conf" / "student"
    folder.mkdir(parents=True)
    (folder / "dying.yaml").write_text("name: dying\nmodel:\n  _target_: dying.Net\n  width: 8\n")
    return tmp_path
