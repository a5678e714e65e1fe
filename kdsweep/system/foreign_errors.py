"""Errors of other libraries that differ only in their texts; a test provokes each of these texts."""

import re


def first_line(error: BaseException, otherwise: str = "") -> str:
    """What an error says first; `otherwise`, or its type, where it says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else otherwise or type(error).__name__


def one_line(error: BaseException) -> str:
    """An error's type and text, in a line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__


def system_error_number(error: BaseException) -> int | None:
    """The errno of a system error; safetensors raises such errors as its own type."""
    if found := re.search(r"\(os error (\d+)\)", str(error)):
        return int(found[1])
    return error.errno if isinstance(error, OSError) else None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the machine or a GPU is out of memory; torch has no error type for the CPU's."""
    torchs = isinstance(error, RuntimeError) and re.search(r"DefaultCPUAllocator|out of memory", str(error))
    return isinstance(error, MemoryError) or bool(torchs)


def memory_wanted(error: BaseException) -> str | None:
    """How much torch asked for, in its words: 2.50 GiB."""
    found = re.search(r"tried to allocate ([\d.,]+ \w+)", str(error), re.IGNORECASE)
    return found[1] if found else None


def has_no_home(error: BaseException) -> bool:
    """Whether pathlib does not know what ~ stands for."""
    return isinstance(error, RuntimeError) and "home directory" in str(error)


def ends_of_workers(error: BaseException) -> list[str]:
    """How the workers of joblib's pool ended, such as SIGKILL(-9), as far as it knows."""
    return re.findall(r"\w+\(-?\d+\)", str(error))


def is_of_another_schema(error: BaseException) -> bool:
    """Whether another version of MLflow made the database."""
    return "out-of-date database schema" in str(error) or "Can't locate revision" in str(error)
