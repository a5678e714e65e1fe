"""MLflow's database of a new folder is made beside the checks, and is there as a whole or not at all."""

import re
import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest
from helpers import COMMAND, TINY, Command, environment
from mlflow import MlflowClient

from kdsweep.tracking.database import begin_database, database_file, place_database


@pytest.fixture
def database() -> None:
    """Here each command finds none."""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made; the test's own folder is the working directory."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


def wait_until_gone(folder: Path) -> None:
    end = time.monotonic() + 60
    while any(folder.glob("kdsweep-*")):
        assert time.monotonic() < end, "the process that makes the database outlives the command"
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("uri", "file"),
    [
        ("sqlite:///mlflow.db", "mlflow.db"),
        ("sqlite:////tmp/a.db?timeout=9", "/tmp/a.db"),
        ("sqlite://", None),
        ("sqlite:///:memory:", None),
        ("http://127.0.0.1:5000", None),
        ("postgresql://host/mlflow", None),
    ],
)
def test_a_database_that_is_a_file(uri, file):
    assert database_file(uri) == (Path(file) if file else None)


def test_it_is_as_mlflow_itself_makes_it(temporary):
    uri = "sqlite:///runs/mlflow.db"
    assert begin_database(uri) == Path("runs/mlflow.db")
    assert not Path("runs").exists(), "it is put there when it is needed"
    place_database(uri)
    (made,) = MlflowClient(uri).search_experiments()
    (own,) = MlflowClient("sqlite:///own.db").search_experiments()
    assert (made.name, made.artifact_location) == (own.name, own.artifact_location)
    assert {file.name for file in Path("runs").iterdir()} == {"mlflow.db", ".mlflow.db.lock"}
    there = Path("runs/mlflow.db").stat()
    assert begin_database(uri) == Path("runs/mlflow.db"), "it has no run: its maker may have been killed"
    place_database(uri)
    assert Path("runs/mlflow.db").stat() == there
    wait_until_gone(temporary)


def test_what_came_meanwhile_stays(temporary):
    begin_database("sqlite:///mlflow.db")
    Path("mlflow.db").write_text("another's")
    place_database("sqlite:///mlflow.db")
    assert Path("mlflow.db").read_text() == "another's"
    assert not list(Path().glob(".mlflow.db-*"))


def test_where_it_cannot_be_a_line_says_so(kdsweep: Command, tmp_path):
    (tmp_path / "file").touch()
    told = kdsweep("tracking.uri=sqlite:///file/mlflow.db", "plan=false", *TINY, status=1).stderr
    assert told.startswith("kdsweep: tracking.uri=sqlite:///file/mlflow.db: file/mlflow.db: File exists; ")


@pytest.mark.long
@pytest.mark.parametrize("end", [None, signal.SIGINT, signal.SIGKILL])
def test_a_command_that_ends_early_leaves_none(temporary, tmp_path, end):
    """Whether by a mistake, by Ctrl-C or killed, after which the next one is as if nothing had been."""
    wrong = ["temperature=-1"] if end is None else []
    with subprocess.Popen(
        [COMMAND, *TINY, *wrong], env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == "checking the job, making mlflow.db\n"
        if end:
            process.send_signal(end)
        process.communicate()
    assert process.returncode == {None: 1, signal.SIGINT: 2, signal.SIGKILL: -9}[end]
    assert not list(tmp_path.glob("*mlflow.db*"))
    wait_until_gone(temporary)
    shown = subprocess.run(
        [COMMAND, "method=scratch", *TINY], env=environment(), capture_output=True, text=True
    )
    assert shown.returncode == 0 and shown.stdout.startswith("checking the job, making mlflow.db\n")


@pytest.mark.long
def test_the_first_line_comes_once_and_only_where_jobs_begin(kdsweep: Command):
    parallel = ("-m", "hardware=cpu_parallel", "hardware.jobs=2", "seed=1,4", "method=scratch")
    shown = kdsweep(*parallel, *TINY).stdout
    assert shown.startswith("checking the sweep, making mlflow.db\n2 jobs over seed")
    assert shown.count("checking") == 1
    assert kdsweep("plan=true").stdout.startswith("checking the job\nplan of one job")
    assert "checking" not in kdsweep("--cfg", "job").stdout + kdsweep("--help").stdout
    assert not re.search(r"^checking", kdsweep("-m", "temperature=-1", status=1).stderr, re.M)


@pytest.mark.long
@pytest.mark.parametrize("damage", ["DROP TABLE runs", "DELETE FROM alembic_version"])
def test_one_that_a_killed_maker_left_is_set_aside(kdsweep: Command, tmp_path, damage):
    """Such as `mlflow ui` of the same moment."""
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    client.search_experiments()
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection, connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute(damage)
    told = kdsweep("method=scratch", *TINY).stderr
    assert "mlflow.db was left unfinished" in told and "set aside as mlflow.db.unfinished-1" in told
    assert (tmp_path / "mlflow.db.unfinished-1").is_file()
    assert "mlflow.db" not in kdsweep("method=scratch", *TINY).stderr


@pytest.mark.long
def test_one_with_runs_is_never_set_aside(kdsweep: Command, tmp_path):
    """An older MLflow's: the line says which command upgrades it."""
    kdsweep("method=scratch", *TINY)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '0a8213491aaa'")
    told = kdsweep("method=scratch", *TINY, status=1).stderr
    assert told.startswith("kdsweep: tracking.uri=sqlite:///mlflow.db: was made by another version of MLflow")
    assert "mlflow db upgrade sqlite:///mlflow.db" in told
    assert "(unexpected" not in told
    assert not list(tmp_path.glob("mlflow.db.*"))


@pytest.mark.long
def test_two_stores_at_once_make_one(tmp_path):
    """Each holds locks in its own store, of which the other knows nothing."""
    job = (COMMAND, "method=scratch", *TINY)
    settings = {"cwd": tmp_path, "env": environment(), "text": True, "stderr": subprocess.PIPE}
    jobs = [subprocess.Popen([*job, f"store={name}"], **settings) for name in ("one", "two", "three")]
    assert [(job.communicate()[1], job.returncode) for job in jobs] == [("", 0)] * 3
    runs = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").search_runs(["1"])
    assert [run.info.status for run in runs] == ["FINISHED"] * 3
