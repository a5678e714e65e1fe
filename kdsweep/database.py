"""MLflow's database in a new folder, which takes seconds to make: another process makes it meanwhile.

It is made in a temporary folder and put in its place once somebody needs it: a command that ends before then,
or is killed, leaves no half a database.
"""

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

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
    """Begin to make the database of `uri` if it is a file that is not there; that file."""
    file = database_file(uri)
    if file is None or file.exists():
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
    """Put what was begun for `uri` in its place, once it is done; a database that is there stays.

    If it cannot be made or put there, MLflow will try in this process, and say why.
    """
    file = database_file(uri)
    maker = _makers.pop(file, None) if file else None
    if file is None or maker is None:
        return
    assert maker.stdin is not None and maker.stdout is not None
    made, new = maker.stdout.readline().strip(), file.with_name(f".{file.name}-{os.getpid()}")
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(made, new)
        with new.open("rb") as copied:
            os.fsync(copied.fileno())
        os.link(new, file)
    with suppress(OSError):
        new.unlink()
    maker.stdin.close()
    with suppress(subprocess.TimeoutExpired):
        maker.wait(5)
    maker.stdout.close()
