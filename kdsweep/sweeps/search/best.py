"""The experiment file that runs a trial again: the groups it chose, and all that differs from them."""

from importlib.resources import files
from typing import Any

from hydra import compose
from omegaconf import DictConfig, OmegaConf

from kdsweep.config import APART, Config

NO_EXPERIMENT = ("hydra", *Config.marked(APART))  # parts of a config


def experiment_file(config: DictConfig, head: str) -> str:
    """The text of the file for a job's whole config; `head` has its comments.

    It needs no other file of the user's: a group is written out if its file is not kdsweep's, or if the job
    lacks keys of it.
    """
    wanted, chosen = of_the_job(config), _chosen(config)
    plain = _composed(config, chosen)
    for group in chosen:
        if not _has_all(wanted.get(group), plain.get(group)):
            chosen[group] = None
    defaults = [{f"override /{group}": choice} for group, choice in chosen.items()]
    body = {"defaults": defaults, **_differences(_composed(config, chosen), wanted)}
    return f"# @package _global_\n{head}\n{OmegaConf.to_yaml(OmegaConf.create(body))}"


def _chosen(config: DictConfig) -> dict[str, str | None]:
    """The job's choice of each group of kdsweep's; None for a file of the user's."""
    usual = compose(config.hydra.job.config_name, return_hydra_config=True).hydra.runtime.choices
    chosen: dict[str, str | None] = {}
    for group, choice in config.hydra.runtime.choices.items():
        if group in usual and group not in (*NO_EXPERIMENT, "experiment") and "hydra" not in group:
            ours = files("kdsweep.conf").joinpath(group, f"{choice}.yaml").is_file()
            chosen[group] = choice if ours else None
    return chosen


def _composed(config: DictConfig, chosen: dict[str, str | None]) -> dict[str, Any]:
    groups = [f"{group}={choice}" if choice else f"~{group}" for group, choice in chosen.items()]
    return of_the_job(compose(config.hydra.job.config_name, groups))


def of_the_job(config: DictConfig) -> dict[str, Any]:
    """The values of a config that shape its job, not resolved."""
    values = OmegaConf.to_container(config)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items() if key not in NO_EXPERIMENT}


def _has_all(values: Any, plain: Any) -> bool:
    """Whether `values` has every key of `plain`: a file can add and change keys, but not remove them."""
    if not isinstance(plain, dict) or not isinstance(values, dict):
        return True
    return all(key in values and _has_all(values[key], plain[key]) for key in plain)


def _differences(plain: Any, wanted: dict[str, Any]) -> dict[str, Any]:
    """The values of `wanted` that differ from `plain`, nested as they are."""
    differences = {}
    for key, value in wanted.items():
        usual = plain.get(key) if isinstance(plain, dict) else None
        if isinstance(value, dict) and isinstance(usual, dict):
            if inside := _differences(usual, value):
                differences[key] = inside
        elif value != usual:
            differences[key] = value
    return differences
