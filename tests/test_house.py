"""Arrows between rooms go down the table of docs/architecture.md, or inwards."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import kdsweep

CODE = Path(kdsweep.__file__).parent
PAGE = (Path(__file__).parent.parent / "docs" / "architecture.md").read_text("utf-8")
HOUSE = re.search(r"## The house\n(.*?)\n## ", PAGE, re.DOTALL)[1]
ROOMS = list(dict.fromkeys(re.findall(r"^\| `(\w+)(?:/\w+)?(?:/|\.py)` \|", HOUSE, re.M)))
FILES = [file for file in sorted(CODE.rglob("*.py")) if file.parent != CODE or file.name != "__init__.py"]


def room_of(file: Path) -> str:
    return file.relative_to(CODE).with_suffix("").parts[0]


def imported(file: Path) -> Iterator[str]:
    """The rooms that a file imports from, in functions and for types too."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        if names == ["kdsweep"]:
            names = [f"kdsweep.{alias.name}" for alias in node.names]
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for name in names:
            package, _, inside = name.partition(".")
            if package == "kdsweep" and inside and not inside.startswith("_"):
                yield inside.split(".")[0]


def test_the_table_has_every_room():
    assert set(map(room_of, FILES)) | {"conf"} == set(ROOMS)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(CODE)))
def test_a_room_imports_from_below(file):
    above = ROOMS[: ROOMS.index(room_of(file))]
    assert not set(imported(file)) & set(above)


def test_mlflow_is_imported_where_the_table_says():
    """Beside the tracking: the flavour that MLflow itself loads, and who builds the model it logs."""
    found = {
        str(file.relative_to(CODE))
        for file in FILES
        if re.search(r"^\s*(?:from|import) mlflow\b", file.read_text("utf-8"), re.M)
    }
    assert {name for name in found if not name.startswith("tracking/")} <= {
        "export/logged.py",
        "export/pyfunc.py",
    }


def test_every_package_is_installed():
    """A room that pyproject.toml does not list is missing from a wheel."""
    listed = tomllib.loads((CODE.parent / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {".".join(["kdsweep", *file.parent.relative_to(CODE).parts]) for file in CODE.rglob("*.py")}
    assert set(listed) == found | {"kdsweep.conf"}
