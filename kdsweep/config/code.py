"""The code behind a `_target_`. The user's own belongs to the recipe, since an edited network is another one.

What a component takes is read without importing it, so that planning needs no torch.
"""

import ast
import hashlib
import importlib
import importlib.util
import inspect
import json
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from kdsweep import BEGAN
from kdsweep.errors import ConfigError

MARKERS = ("of_whole_batch", "soft_labels")  # decorators of `kdsweep.methods`, which change no signature
SOURCE = "_source_"  # in a stage's description: the digest of a component's code, if it is the user's
# by kdsweep to each network, optimizer and schedule
GIVEN = ("num_classes", "in_channels", "image_size", "params", "lr", "optimizer", "last_epoch")

_digests: dict[tuple[str, ...], str] = {}  # of the user's modules, as this process last read them


def import_from_here() -> None:
    """A console script does not look for modules in the working directory, where users keep theirs."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)


def import_component(path: str) -> Any:
    """What lies at an import path. Raises whatever importing it raises, or AttributeError."""
    module, _, name = path.rpartition(".")
    import_from_here()
    return getattr(importlib.import_module(module), name)


def source_digest(description: Mapping[str, Any]) -> str | None:
    """The digest of the files that define a user's own component, and of the user's files that these import.

    None for an installed component, which an environment pins by version. Nothing is imported except the
    packages above a module. Raises ConfigError for a component of a notebook, whose text is unknown.
    """
    for target in _targets(description):
        if target.startswith("__main__."):
            raise ConfigError(
                f"_target_={target}: is of a notebook or a script; put it into a module of its own, such as "
                "my_networks.py beside it, since its text is a part of what identifies a network"
            )
    files = own_files(description)
    if not files:
        return None
    content = hashlib.sha256()
    for module in sorted(files):
        text = files[module].read_bytes()
        content.update(f"{module} {len(text)}\n".encode() + text)
    digest = content.hexdigest()[:32]
    _forget_older(files, digest)
    return digest


def _forget_older(files: Mapping[str, Path], digest: str) -> None:
    """Have files imported again if they have changed since: what a key describes must be what runs.

    A notebook's process outlives the edits of its files. What it had imported before kdsweep read the file is
    as old as the file, unless that is younger than the process.
    """
    if _digests.get(tuple(files)) != digest:
        unknown = tuple(files) not in _digests
        if not unknown or any(file.stat().st_mtime > BEGAN for file in files.values()):
            for module in files:
                sys.modules.pop(module, None)
            importlib.invalidate_caches()
        _digests[tuple(files)] = digest


def own_files(description: Mapping[str, Any]) -> dict[str, Path]:
    """The files that define a user's own component, and the user's files that these import, by module."""
    import_from_here()
    files: dict[str, Path] = {}
    waiting = list(_targets(description))
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


def default_options(description: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a component leaves to plain defaults: given or left out, they are one recipe.

    Nothing is imported. Only functions, and classes with an `__init__`, at the top of modules of kdsweep or
    of the user are read.
    """
    if {"_args_", "_partial_"} & description.keys():
        return {}
    call = _signature(description["_target_"], "__init__")
    if call is None:
        return {}
    pairs = [*zip(call.args[::-1], call.defaults[::-1], strict=False)]  # the last ones have defaults
    pairs += [(name, value) for name, value in zip(call.kwonlyargs, call.kw_defaults, strict=True) if value]
    found = {}
    for argument, value in pairs:
        with suppress(ValueError, TypeError):
            plain = ast.literal_eval(value)
            json.dumps(plain, allow_nan=False)
            found[argument.arg] = plain
    return {option: value for option, value in found.items() if option not in {*description, *GIVEN}}


def takes(target: str) -> frozenset[str]:
    """What a function, or the `forward` of a class, takes by name; imported only if it cannot be read.

    Raises whatever the import raises.
    """
    call = _signature(target, "forward")
    if call is None:
        component = import_component(target)
        of_class = inspect.isclass(component)
        called = component.forward if of_class else component
        return frozenset(inspect.signature(called).parameters)
    return frozenset(argument.arg for argument in (*call.args, *call.kwonlyargs))


def _signature(target: str, method: str) -> ast.arguments | None:
    """The arguments of a function, or of a method that a class itself has; None if they cannot be read."""
    module, _, name = target.rpartition(".")
    if module.startswith("kdsweep."):
        file: Path | None = Path(__file__).parent.parent.joinpath(*module.split(".")[1:]).with_suffix(".py")
    else:
        file = own_files({"_target_": target}).get(module)
    if file is None or not file.is_file():
        return None
    return _read_signature(file, file.stat().st_mtime_ns, name, method)


@lru_cache
def _read_signature(file: Path, changed: int, name: str, method: str) -> ast.arguments | None:
    try:
        body = ast.parse(file.read_bytes()).body
    except SyntaxError:  # importing it will say so
        return None
    found = [statement for statement in body if name in _bound(statement)]
    if len(found) == 1 and isinstance(found[0], ast.ClassDef) and _is_plain(found[0]):
        found = [statement for statement in found[0].body if method in _bound(statement)]
    if len(found) != 1 or not isinstance(found[0], ast.FunctionDef) or not _is_plain(found[0]):
        return None
    return found[0].args


def _is_plain(statement: ast.ClassDef | ast.FunctionDef) -> bool:
    """Whether no decorator may have put something else in its place."""
    names = [each.id if isinstance(each, ast.Name) else None for each in statement.decorator_list]
    return all(name in MARKERS for name in names)


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
    """The import paths in a description, nested ones too."""
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
