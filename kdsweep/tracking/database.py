"""SQLite databases of MLflow and Optuna: whole from the first moment, whoever is killed or comes at once.

Each is made under another name and put into its place; MLflow's, which takes seconds, by another process
meanwhile.
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

# Makes the database in a folder of its own, says so, and clears up once nobody holds its standard input. It
# does not wait for the disk after each migration, which takes longer than all the rest: the copy does.
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
os._exit(0)  # at once: what is measured next wants a quiet machine
"""

_makers: dict[Path, subprocess.Popen[str]] = {}  # by the file that is wanted


def database_file(uri: str) -> Path | None:
    """The file of an SQLite database; None for any other address."""
    file = uri.removeprefix("sqlite:///").split("?")[0]
    return Path(file) if file not in (uri, "", ":memory:") else None


def begin_database(uri: str) -> Path | None:
    """Begin to make MLflow's database of `uri` if it is a file that is not there, or has no run, such as one
    whose maker was killed; that file."""
    file = database_file(uri)
    if file is None or (file.exists() and not _is_unused(file)):
        return None
    _makers[file] = subprocess.Popen(
        [sys.executable, "-P", "-c", MAKE],  # -P: whatever lies in this folder
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,  # Ctrl-C is for this process, whose end is that one's
    )
    return file


def place_database(uri: str) -> None:
    """Put what was begun for `uri` in its place, once it is done; a whole database that is there stays.

    If it cannot be made or put there, MLflow will try in this process, and say why.
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
                log.warning("%s was left unfinished; set aside as %s, made anew", file, aside)
        make_whole(file, lambda new: shutil.copyfile(made, new))
    maker.stdin.close()
    with suppress(subprocess.TimeoutExpired):
        maker.wait(5)
    maker.stdout.close()


def database_lock(file: Path) -> FileLock:
    """Held by whoever makes the database or might; it lies beside it, for stores may differ."""
    return FileLock(file.with_name(f".{file.name}.lock"))


def make_whole(file: Path, make: Callable[[Path], object]) -> None:
    """Have `make(path)` make a database, which becomes `file` in one step unless that is there meanwhile."""
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
    """Whether it is a database of MLflow's, or an empty one, in which no run ever began."""
    try:
        with _opened(file) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
            if tables and "experiments" not in tables:
                return False
            return "runs" not in tables or not connection.execute("SELECT 1 FROM runs LIMIT 1").fetchone()
    except sqlite3.Error:
        return False


def _version(file: Path) -> tuple[Any, ...]:
    """What tells a database of MLflow's that is whole: its version, and the names of its tables."""
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
