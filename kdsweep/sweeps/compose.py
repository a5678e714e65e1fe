"""The config of every job of a sweep, composed once per choice of groups and not once per job.

Composing takes Hydra a tenth of a second. Jobs that choose the same files of the groups differ only by
values, which are put into a copy as Hydra does, in their order. If that fails, Hydra composes the job itself
and reports what is wrong with it.
Hydra imports this module at every start: keep it light.
"""

import copy
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from kdsweep.sweeps.plain import PlainConfig

ADDS = (OverrideType.ADD, OverrideType.FORCE_ADD)


def compose(master: DictConfig, jobs: Sequence[Sequence[str]]) -> Iterator[DictConfig]:
    """The config of each job of the sweep `master`, without the node hydra, as Hydra composes it.

    Raises Hydra's errors for overrides that do not compose.
    """
    composer = _Composer(GlobalHydra.instance().config_loader(), master)
    return (composer.config(job) for job in jobs)


def composed_values(
    master: DictConfig, jobs: Sequence[Sequence[str]]
) -> Iterator[DictConfig | dict[str, Any]]:
    """The values of each job: resolved if the config is plain, else as from `compose`."""
    composer = _Composer(GlobalHydra.instance().config_loader(), master)
    for job in jobs:
        values = composer.values(job)
        yield composer.config(job) if values is None else values


class SweepLoader(ConfigLoader):
    """Hydra's loader for launchers: a process composes the jobs that it runs as `compose` does."""

    def __init__(self, loader: ConfigLoader) -> None:
        self.loader = loader

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        hydra = master_config.hydra
        overrides = str(OmegaConf.to_container(hydra.overrides.hydra))  # unresolved: a job's number may occur
        key = str(hydra.sweep.dir), overrides
        composer = _whole.setdefault(key, _WholeComposer(self.loader, master_config))
        return composer.config(sweep_overrides)

    def load_configuration(self, *given: Any, **options: Any) -> DictConfig:
        return self.loader.load_configuration(*given, **options)

    def get_search_path(self) -> Any:
        return self.loader.get_search_path()

    def get_sources(self) -> Any:
        return self.loader.get_sources()

    def list_groups(self, parent_name: str) -> list[str]:
        return self.loader.list_groups(parent_name)

    def get_group_options(self, *given: Any, **options: Any) -> list[str]:
        return self.loader.get_group_options(*given, **options)

    def compute_defaults_list(self, *given: Any, **options: Any) -> Any:
        return self.loader.compute_defaults_list(*given, **options)


class _Composer:
    def __init__(self, loader: ConfigLoader, master: DictConfig) -> None:
        self.loader, self.master = loader, master
        self.bases: dict[tuple[str, ...], DictConfig] = {}  # by the overrides that choose groups
        self.plain: dict[tuple[str, ...], PlainConfig] = {}
        self._parse = lru_cache(maxsize=None)(self._parsed)

    def config(self, job: Sequence[str]) -> DictConfig:
        parsed = [self._parse(override) for override in job]
        if all(choice or _is_plain(override) for override, choice in parsed):
            chosen = tuple(line for line, (_, choice) in zip(job, parsed, strict=True) if choice)
            values = [override for override, choice in parsed if not choice]
            try:
                if chosen not in self.bases:
                    self.bases[chosen] = self._composed(chosen)
                config = copy.deepcopy(self.bases[chosen])
                for override in values:
                    _put(config, override)
                self._record(config, job)
                return config
            except (HydraException, OmegaConfBaseException):  # Hydra reports it better
                pass
        return self._composed(job)

    def values(self, job: Sequence[str]) -> dict[str, Any] | None:
        """The values of a job with plain overrides of plain files; None for any other job."""
        parsed = [self._parse(override) for override in job]
        chosen = tuple(line for line, (_, choice) in zip(job, parsed, strict=True) if choice)
        if chosen not in self.plain:
            self.plain[chosen] = PlainConfig(self.config(chosen))
        return self.plain[chosen].values([override for override, choice in parsed if not choice])

    def _composed(self, job: Sequence[str]) -> DictConfig:
        config = self.loader.load_sweep_config(self.master, list(job))
        with open_dict(config):
            del config["hydra"]
        return config

    def _record(self, config: DictConfig, job: Sequence[str]) -> None:
        """Note the overrides in a config that records them."""

    def _parsed(self, line: str) -> tuple[Override, bool]:
        """An override, and whether it chooses the file of a group."""
        (override,) = OverridesParser.create().parse_overrides([line])
        if override.is_value_path or isinstance(override.value(), dict):
            return override, False
        return override, bool(self.loader.get_group_options(override.key_or_group, None))


class _WholeComposer(_Composer):
    """With the node hydra."""

    def _composed(self, job: Sequence[str]) -> DictConfig:
        return self.loader.load_sweep_config(self.master, list(job))

    def _record(self, config: DictConfig, job: Sequence[str]) -> None:
        config.hydra.overrides.task = list(job)


_whole: dict[tuple[str, str], _WholeComposer] = {}  # of the process, by sweep


def _is_plain(override: Override) -> bool:
    """Whether it only sets values of the job; a dictionary for a group does that too."""
    of_hydra = override.key_or_group.split(".")[0] == "hydra"
    gives = override.type in (OverrideType.CHANGE, *ADDS)
    return gives and not (override.is_sweep_override() or override.package or of_hydra)


def _put(config: DictConfig, override: Override) -> None:
    key, value = override.key_or_group, override.value()
    exists = OmegaConf.select(config, key, throw_on_missing=False) is not None
    if override.type == OverrideType.ADD and exists and not isinstance(value, dict | list):
        raise HydraException(f"{key} exists already")
    OmegaConf.update(config, key, value, merge=True, force_add=override.type in ADDS)
