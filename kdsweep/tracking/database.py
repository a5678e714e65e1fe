"""SQLite databases of MLflow and Optuna: complete from the first moment, even if processes are killed or
start together.

Each is made under another name and then moved to its place; another process makes MLflow's, which takes
seconds.
"""

import itertools
import logging
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

log = logging.getLogger(__name__)

# Makes the database in its own folder, prints its path, and cleans up when its standard input closes. It does
# not wait for the disk after each migration, which would take longer than the rest: the copy does.
MAKE = """
import os, sys, tempfile
with tempfile.TemporaryDirectory(prefix="kdsweep-") as folder:
    from mlflow import MlflowClient
    from sqlalchemy import event
    from sqlalchemy.engine import Engine
    event.listen(Engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = OFF"))
    file = os.path.join(folder, "mlflow.db")
    MlflowClient("sqlite:///" + file).search_experiments()
    print(file, flush=True)
    sys.stdin.read()
os._exit(0)  # at once: latency, which is measured next, needs a quiet machine
"""

_makers: dict[Path, subprocess.Popen[str]] = {}  # by the wanted file


def database_file(uri: str) -> Path | None:
    """The file of an SQLite database; None for any other address."""
    file = uri.removeprefix("sqlite:///").split("?")[0]
    return Path(file) if file not in (uri, "", ":memory:") else None


def anywhere(uri: str) -> str:
    """The address for MLflow, which remembers a database by its name though the process may go elsewhere."""
    file, (_, mark, options) = database_file(uri), uri.partition("?")
    return f"sqlite:///{file.absolute()}{mark}{options}" if file else uri


def begin_database(uri: str) -> Path | None:
    """Begin to make MLflow's database of `uri` and return its file, if that is missing or has no run, as
    after its maker was killed."""
    file = database_file(uri)
    if file is None or (file.exists() and not _is_unused(file)):
        return None
    _makers[file] = subprocess.Popen(
        [sys.executable, "-P", "-c", MAKE],  # -P ignores Python files in this folder
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,  # Ctrl-C reaches this process alone; its end ends the maker
    )
    return file


def place_database(uri: str) -> None:
    """Move the database begun for `uri` to its place when it is done; a complete existing one stays.

    If that fails, MLflow tries in this process and reports why.
    """
    file = database_file(uri)
    maker = _makers.pop(file, None) if file else None
    if file is None or maker is None:
        return
    assert maker.stdin is not None and maker.stdout is not None
    made = Path(maker.stdout.readline().strip())
    with suppress(OSError, sqlite3.Error):
        file.parent.mkdir(parents=True, exist_ok=True)
        with database_lock(file):
            if file.exists() and _is_unused(file) and _version(file) != _version(made):
                aside = file.rename(_free_name(file))
                log.warning("%s was left unfinished: it is set aside as %s, and a new one made", file, aside)
        make_whole(file, lambda new: shutil.copyfile(made, new))
    maker.stdin.close()
    with suppress(subprocess.TimeoutExpired):
        maker.wait(5)
    maker.stdout.close()


def database_lock(file: Path) -> FileLock:
    """The lock of making the database; it lies beside the database, since stores may differ."""
    return FileLock(file.with_name(f".{file.name}.lock"))


def make_whole(file: Path, make: Callable[[Path], object]) -> None:
    """Let `make(path)` make a database and move it to `file` in one step, unless that exists meanwhile."""
    new = file.with_name(f".{file.name}-{os.getpid()}")
    try:
        make(new)
        with new.open("rb") as made:
            os.fsync(made.fileno())
        with database_lock(file):
            if not file.exists():
                new.rename(file)
    finally:
        new.unlink(missing_ok=True)


def _is_unused(file: Path) -> bool:
    """Whether it is an empty database, or one of MLflow's without any run."""
    try:
        with _opened(file) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
            if tables and "experiments" not in tables:
                return False
            return "runs" not in tables or not connection.execute("SELECT 1 FROM runs LIMIT 1").fetchone()
    except sqlite3.Error:
        return False


def _version(file: Path) -> tuple[Any, ...]:
    """What identifies a complete database of MLflow's: its version and the names of its tables."""
    with _opened(file) as connection:
        tables = sorted(connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'"))
        version = (
            [*connection.execute("SELECT * FROM alembic_version")] if ("alembic_version",) in tables else []
        )
        return version, tables


def _opened(file: Path) -> closing[sqlite3.Connection]:
    return closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True))


def _free_name(file: Path) -> Path:
    names = (file.with_name(f"{file.name}.unfinished-{number}") for number in itertools.count(1))
    return next(name for name in names if not name.exists())
