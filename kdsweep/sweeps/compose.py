"""The config of every job of a sweep, composed once per choice of groups and not once per job.

Composing takes Hydra a tenth of a second. Jobs that choose the same files of the groups differ only by
values, which are put into a copy as Hydra does, in their order. If that fails, Hydra composes the job itself
and reports what is wrong with it.
"""

import pickle
from collections.abc import Iterator, Sequence
from functools import lru_cache

from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from kdsweep.sweeps.overrides import parsed

ADDS = (OverrideType.ADD, OverrideType.FORCE_ADD)


def compose(master: DictConfig, jobs: Sequence[Sequence[str]]) -> Iterator[DictConfig]:
    """The config of each job of the sweep `master`, without the node hydra, as Hydra composes it.

    Raises Hydra's errors for overrides that do not compose.
    """
    composer = _Composer(GlobalHydra.instance().config_loader(), master, whole=False)
    return (composer.config(job) for job in jobs)


class SweepLoader:
    """What launchers need of Hydra's loader: a process composes the jobs that it runs as `compose` does."""

    def __init__(self, loader: ConfigLoader) -> None:
        self.loader = loader
        _of_sweeps.clear()  # an earlier sweep of this process may have had the same folder

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        hydra = master_config.hydra
        overrides = str(OmegaConf.to_container(hydra.overrides.hydra))  # unresolved: a job's number may occur
        key = str(hydra.sweep.dir), overrides
        composer = _of_sweeps.setdefault(key, _Composer(self.loader, master_config, whole=True))
        return composer.config(sweep_overrides)


class _Composer:
    def __init__(self, loader: ConfigLoader, master: DictConfig, whole: bool) -> None:
        self.loader, self.master = loader, master
        self.whole = whole  # with the node hydra
        # by the overrides that choose groups; pickle copies them several times as fast as deepcopy
        self.bases: dict[tuple[str, ...], bytes] = {}
        self._parse = lru_cache(maxsize=None)(self._parsed)

    def config(self, job: Sequence[str]) -> DictConfig:
        overrides = [self._parse(line) for line in job]
        if all(choice or _is_plain(override) for override, choice in overrides):
            chosen = tuple(line for line, (_, choice) in zip(job, overrides, strict=True) if choice)
            try:
                if chosen not in self.bases:
                    self.bases[chosen] = pickle.dumps(self._composed(chosen))
                config: DictConfig = pickle.loads(self.bases[chosen])
                for override, choice in overrides:
                    if not choice:
                        _put(config, override)
                if self.whole:
                    config.hydra.overrides.task = list(job)
                return config
            except (HydraException, OmegaConfBaseException):  # Hydra reports it better
                pass
        return self._composed(job)

    def _composed(self, job: Sequence[str]) -> DictConfig:
        config = self.loader.load_sweep_config(self.master, list(job))
        if not self.whole:
            with open_dict(config):
                del config["hydra"]
        return config

    def _parsed(self, line: str) -> tuple[Override, bool]:
        """An override, and whether it chooses the file of a group."""
        override = parsed(line)
        if override.is_value_path or isinstance(override.value(), dict):
            return override, False
        return override, bool(self.loader.get_group_options(override.key_or_group, None))


_of_sweeps: dict[tuple[str, str], _Composer] = {}  # of the process


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
