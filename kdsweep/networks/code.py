"""The code of a user's own network, which belongs to its recipe: an edited network is another one."""

import ast
import hashlib
import importlib.util
import json
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from kdsweep.networks.build import import_from_here

# by kdsweep to each network, optimizer and schedule
GIVEN = ("num_classes", "in_channels", "image_size", "params", "lr", "optimizer", "last_epoch")


def source_digest(model: Mapping[str, Any]) -> str | None:
    """The content of the files that define a user's own network, with all of theirs that these import.

    None for a network that is installed, which an environment pins by version. Nothing is imported but the
    packages above a module.
    """
    files = own_files(model)
    if not files:
        return None
    content = hashlib.sha256()
    for module in sorted(files):
        text = files[module].read_bytes()
        content.update(f"{module} {len(text)}\n".encode() + text)
    return content.hexdigest()[:32]


def own_files(model: Mapping[str, Any]) -> dict[str, Path]:
    """The files that define a user's own network, with all of theirs that these import, by module."""
    import_from_here()
    files: dict[str, Path] = {}
    waiting = list(_targets(model))
    while waiting:
        for module, file in _files_of(waiting.pop()):
            if module not in files:
                files[module] = file
                waiting += _imports(module, file)
    return files


def copy_code(files: Mapping[str, Path], folder: Path) -> None:
    """Copy modules below a folder, laid out so that they can be imported from there."""
    for module, file in files.items():
        path = folder.joinpath(*module.split("."))
        target = path / file.name if file.name == "__init__.py" else path.with_suffix(".py")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())


def default_options(model: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a component of kdsweep's or of the user's own leaves to its defaults, where the code
    has plain values for them: left out or given, they are one. Nothing is imported for it.

    Only a class with an `__init__` or a function, at the top of its module, is looked into.
    """
    module, _, name = str(model["_target_"]).rpartition(".")
    if module.startswith("kdsweep."):
        house = Path(__file__).parent.parent
        file: Path | None = house.joinpath(*module.split(".")[1:]).with_suffix(".py")
    else:
        file = own_files(model).get(module)
    if file is None or not file.is_file() or {"_args_", "_partial_"} & model.keys():
        return {}
    known = _defaults(file, file.stat().st_mtime_ns, name)
    return {option: value for option, value in known.items() if option not in {*model, *GIVEN}}


@lru_cache
def _defaults(file: Path, changed: int, name: str) -> dict[str, Any]:
    """The plain defaults of what a file calls by a name once."""
    try:
        body = ast.parse(file.read_bytes()).body
    except SyntaxError:  # importing it will say so
        return {}
    made = [each for each in body if name in _bound(each)]
    if len(made) == 1 and isinstance(made[0], ast.ClassDef) and not made[0].decorator_list:
        made = [each for each in made[0].body if "__init__" in _bound(each)]
    if len(made) != 1 or not isinstance(made[0], ast.FunctionDef) or made[0].decorator_list:
        return {}
    given = made[0].args
    pairs = [*zip(given.args[::-1], given.defaults[::-1], strict=False)]  # the last ones have defaults
    pairs += [(each, value) for each, value in zip(given.kwonlyargs, given.kw_defaults, strict=True) if value]
    found = {}
    for argument, value in pairs:
        with suppress(ValueError, TypeError):
            plain = ast.literal_eval(value)
            json.dumps(plain, allow_nan=False)
            found[argument.arg] = plain
    return found


def _bound(statement: ast.stmt) -> Iterator[str]:
    """The names that a statement may bind, in whatever way."""
    for node in ast.walk(statement):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.alias):
            yield node.asname or node.name


def _targets(value: Any) -> Iterator[str]:
    """The import paths in a network's description, nested ones too."""
    if isinstance(value, Mapping):
        if isinstance(value.get("_target_"), str):
            yield value["_target_"]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _targets(item)


def _files_of(name: str) -> list[tuple[str, Path]]:
    """The modules that the dotted `name` leads through, and their files, unless they are installed."""
    found: list[tuple[str, Path]] = []
    parts = name.split(".")
    for length in range(1, len(parts) + 1):
        module = ".".join(parts[:length])
        try:
            spec = importlib.util.find_spec(module)
        except Exception:  # a package that cannot be imported; building the network will say so
            break
        if spec is None:
            break
        if spec.origin and Path(spec.origin).is_file():
            if _is_installed(Path(spec.origin)):
                return []
            found.append((module, Path(spec.origin)))
        if spec.submodule_search_locations is None:  # no package, nothing lies deeper
            break
    return found


def _is_installed(file: Path) -> bool:
    if {"site-packages", "dist-packages"} & set(file.parts):
        return True
    ours, stdlib = Path(__file__).resolve().parent.parent, Path(sysconfig.get_path("stdlib")).resolve()
    return any(map(file.resolve().is_relative_to, (ours, stdlib)))


def _imports(module: str, file: Path) -> Iterator[str]:
    """The names that a file imports, as absolute dotted names."""
    try:
        tree = ast.parse(file.read_bytes())
    except SyntaxError:  # importing it will say so
        return
    parts = module.split(".")
    package = parts if file.name == "__init__.py" else parts[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = [*above, *([node.module] if node.module else [])]
            yield from (".".join([*base, alias.name]) for alias in node.names)
