"""From a composed config to a typed one: nothing is loaded or trained before `parse` has accepted it."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from kdsweep.config import SAME, Config, Teacher
from kdsweep.errors import ConfigError
from kdsweep.system.hydra_errors import unknown_key

PATTERNS = {
    "_target_": "an import path, such as my_methods.loss",
    "device": "auto, cpu, cuda, cuda:N",
    "address": "auto, HOST:6379, ray://HOST:10001",
}


def parse(config: DictConfig | dict[str, Any]) -> Config:
    """The typed config of a job, from a composed one or from its values, which may change in this.

    Raises ConfigError with a line for each thing wrong with it.
    """
    values = config if isinstance(config, dict) else _resolved(config)
    _complete_recipes(values)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        lines = [_explain(each, values) for each in error.errors()]
        raise ConfigError("\n".join(line for line in lines if not _is_repeated(line, lines))) from error


def _resolved(config: DictConfig) -> dict[Any, Any]:
    try:
        values = OmegaConf.to_container(config, resolve=True)
    except (OmegaConfBaseException, RecursionError) as error:  # to nowhere, in a circle, to what is missing
        from kdsweep.system.hydra_errors import unresolved

        _refuse_missing(config)
        raise ConfigError(unresolved(error)) from error
    assert isinstance(values, dict)
    if "???" in str(values):  # looking for them in the config would resolve all of it again
        _refuse_missing(config)
    return values


def _refuse_missing(config: DictConfig) -> None:
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise ConfigError("\n".join(f"{key} is missing (???): give {key}=…" for key in missing))


def _complete_recipes(values: dict[Any, Any]) -> None:
    """The recipe of a teacher or an assistant says what differs from the student's."""
    students = values.get("training")
    for network in _others(values):
        _complete(network, students)
    teacher, further = values.get("teacher"), values.get("teachers")
    if isinstance(teacher, dict) and isinstance(further, dict):
        for network in further.values():
            if isinstance(network, dict):
                _complete(network, teacher["training"])


def _complete(network: dict[Any, Any], recipe: Any) -> None:
    own = network.get("training") or {}
    network["training"] = _merged(recipe, own) if isinstance(recipe, dict) else recipe


def _others(values: dict[Any, Any]) -> Iterator[dict[Any, Any]]:
    """The teacher and the assistants, as far as these are mappings."""
    networks = [values.get("teacher")]
    for section in (values.get("student"), values.get("chain")):
        assistants = section.get("assistants") if isinstance(section, dict) else None
        networks += assistants if isinstance(assistants, list) else []
    return (each for each in networks if isinstance(each, dict))


def _merged(base: Any, changes: Any) -> Any:
    """`base` with `changes`, key by key, nested ones too; what has a `_target_` of its own stands alone."""
    if changes == SAME:
        return base
    if not isinstance(base, dict) or not isinstance(changes, dict) or "_target_" in changes:
        return changes
    differing = {key: value for key, value in changes.items() if value != SAME}
    return base | {key: _merged(base.get(key), value) for key, value in differing.items()}


def _is_repeated(line: str, lines: list[str]) -> bool:
    """Whether a mistake is the student's, in the recipe of another that is completed by the student's."""
    students = re.sub(r"[\w.]+\.training\b", "training", line)
    return students != line and students in lines


def _explain(error: ErrorDetails, values: Mapping[Any, Any]) -> str:
    """One line: the key, its value, what is allowed."""
    path = _path(error["loc"], values)
    key = ".".join(map(str, path))
    kind, context = error["type"], error.get("ctx", {})
    if not path:  # of several keys together; the message names them
        return error["msg"]
    if kind == "extra_forbidden":
        return unknown_key(key, _siblings(path, values))
    if kind == "missing":
        return f"{key} is missing from the config"
    if kind == "literal_error":
        allowed = f"allowed: {context['expected']}".replace(" or ", ", ").replace("'", "")
    elif kind == "union_tag_invalid":
        choice = context["discriminator"].strip("'")
        return f"{key}.{choice}={context['tag']}: allowed: {context['expected_tags']}".replace("'", "")
    elif kind == "union_tag_not_found":
        return f"{key}.{context['discriminator']} is missing from the config".replace("'", "")
    elif kind == "string_pattern_mismatch":
        allowed = f"allowed: {PATTERNS[str(path[-1])]}"
    elif kind == "string_too_short":
        allowed = "must not be empty"
    elif kind == "string_unicode":
        allowed = "must be text, in the locale's encoding or UTF-8"
    elif kind == "model_type":
        allowed = "must be a section of keys"
    else:
        allowed = error["msg"].replace("Input should be", "must be").replace("a valid ", "a ")
        allowed = allowed.replace("a integer", "a whole number").replace("a boolean", "true or false")
    if isinstance(error["input"], Mapping):
        return f"{key}: {allowed}"
    value = error["input"] if isinstance(error["input"], str) else json.dumps(error["input"])
    return f"{key}={value}: {allowed}"


def _path(location: tuple[int | str, ...], values: Any) -> list[int | str]:
    """The location without the union's tags, which pydantic names but the config does not."""
    path = []
    for part in location:
        if isinstance(values, Mapping) and part not in values and part is not location[-1]:
            continue
        path.append(part)
        values = values.get(part) if isinstance(values, Mapping) else None
    return path


def _siblings(path: list[int | str], values: Mapping[Any, Any]) -> list[str]:
    if path[0] == "teachers" and len(path) == 3:  # whose file mentions few of its keys
        return list(Teacher.model_fields)
    for part in path[:-1]:
        values = values[part]
    return [str(key) for key in values if key != path[-1]]
