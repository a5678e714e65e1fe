"""The texts by which errors of other libraries are told apart are those of the installed versions."""

import errno
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import torch
from joblib import Parallel, delayed
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import TerminatedWorkerError
from safetensors.torch import save_file

from kdsweep.system.foreign_errors import (
    ends_of_workers,
    has_no_home,
    is_of_another_schema,
    is_out_of_memory,
    memory_wanted,
    system_error_number,
)


def raised(make) -> BaseException:
    with pytest.raises(Exception) as error:
        make()
    return error.value


def test_safetensors_names_the_error_of_the_system(tmp_path):
    error = raised(lambda: save_file({"a": torch.zeros(1)}, tmp_path / "none" / "file"))
    assert system_error_number(error) == errno.ENOENT
    assert system_error_number(raised(lambda: (tmp_path / "none").read_text())) == errno.ENOENT
    assert system_error_number(ValueError("no")) is None


def test_torch_says_how_much_memory_it_wanted():
    error = raised(lambda: torch.empty(2**60, dtype=torch.uint8))
    assert is_out_of_memory(error) and memory_wanted(error) == f"{2**60} bytes"
    assert is_out_of_memory(MemoryError()) and not is_out_of_memory(RuntimeError("another"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_torch_says_so_of_a_gpu():
    error = raised(lambda: torch.empty(2**50, dtype=torch.uint8, device="cuda"))
    assert is_out_of_memory(error) and memory_wanted(error)


def test_pathlib_says_that_it_knows_no_home():
    assert has_no_home(raised(Path("~nobody-of-this-name").expanduser))


def test_joblib_says_how_a_worker_ended():
    with pytest.raises(TerminatedWorkerError) as error:
        Parallel(n_jobs=2)(delayed(os.abort)() for _ in range(2))
    get_reusable_executor(reuse=True).shutdown(wait=False)
    ends = ends_of_workers(error.value)
    assert set(ends) <= {"SIGABRT(-6)", "SIGTERM(-15)", "UNKNOWN(255)"}
    assert ends or "exit codes" not in str(error.value)  # it does not wait long for them


@pytest.mark.parametrize("version", ["451aebb31d03", "none"])  # an early one, and one that is none
def test_mlflow_says_that_a_database_is_of_another_version(database, tmp_path, version):
    from mlflow import MlflowClient

    file = shutil.copy(database, tmp_path / "another.db")
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", [version])
    assert is_of_another_schema(raised(lambda: MlflowClient(f"sqlite:///{file}").search_experiments()))
