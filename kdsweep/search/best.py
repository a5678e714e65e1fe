"""The experiment file that runs a trial again, saying what it differs in from the groups it chose."""

from typing import Any

from hydra import compose
from omegaconf import DictConfig, OmegaConf

APART = ("hydra", "hardware", "tracking", "store", "debug", "search", "plan")  # no part of an experiment


def experiment_file(config: DictConfig, head: str) -> str:
    """The text of the file for a job's whole config; `head` are its comments."""
    chosen = {
        group: choice
        for group, choice in config.hydra.runtime.choices.items()
        if choice and not group.startswith("hydra/") and group not in (*APART, "experiment")
    }
    experiment = config.hydra.runtime.choices.get("experiment")
    groups = [f"{group}={choice}" for group, choice in chosen.items()]
    if experiment:
        groups.append(f"experiment={experiment}")
    plain = _values(compose(config.hydra.job.config_name, groups))
    defaults = [experiment] if experiment else []
    defaults += [{f"override /{group}": choice} for group, choice in chosen.items()]
    body = {"defaults": defaults, **_differences(plain, _values(config))}
    return f"# @package _global_\n{head}\n{OmegaConf.to_yaml(OmegaConf.create(body))}"


def _values(config: DictConfig) -> dict[str, Any]:
    values = OmegaConf.to_container(config)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items() if key not in APART}


def _differences(plain: Any, wanted: dict[str, Any]) -> dict[str, Any]:
    """What of `wanted` is not so in `plain`, nested as they are."""
    found = {}
    for key, value in wanted.items():
        there = plain.get(key) if isinstance(plain, dict) else None
        if isinstance(value, dict) and isinstance(there, dict):
            value = _differences(there, value)
            if value:
                found[key] = value
        elif value != there:
            found[key] = value
    return found
