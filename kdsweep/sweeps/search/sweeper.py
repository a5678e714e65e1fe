"""The plugin that Hydra finds: its config, and a sweeper that imports Optuna when it is made.

Hydra imports this module at every start: keep it light.
"""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from hydra_plugins.hydra_optuna_sweeper.config import OptunaSweeperConf, TPESamplerConfig
from omegaconf import DictConfig


@dataclass
class WorkersTPEConf(TPESamplerConfig):
    """Optuna's default, which the plugin turns off: what another worker is trying is not suggested again."""

    constant_liar: bool = True


@dataclass
class SearchConf(OptunaSweeperConf):
    """Hydra's own keys; those of conf/search/ lead here."""

    _target_: str = "kdsweep.sweeps.search.sweeper.Search"
    defaults: list[Any] = field(default_factory=lambda: [{"sampler": "kdsweep_tpe"}])
    direction: Any = None  # as the job's objective asks for
    n_jobs: int = 0  # workers; 0: as many as the hardware has room for
    pruner: str = "none"


store = ConfigStore.instance().store
store(group="hydra/sweeper", name="kdsweep_optuna", node=SearchConf, provider="kdsweep")
store(group="hydra/sweeper/sampler", name="kdsweep_tpe", node=WorkersTPEConf, provider="kdsweep")


class Search(Sweeper):
    """As Hydra's Optuna sweeper, with pruning, a study that goes on, and workers that do not wait."""

    def __init__(self, **options: Any) -> None:
        """They are read from the sweep's config, where `check` has found them right."""

    @staticmethod
    def check(config: DictConfig) -> int:
        """The number of trials that the search comes to. Raises ConfigError if it cannot be run."""
        from kdsweep.sweeps.search.study import check

        return check(config)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """A launcher is made for the workers once they are known."""
        self.context, self.sweep_config = hydra_context, config

    def sweep(self, arguments: list[str]) -> None:
        from kdsweep.sweeps.search.study import search

        search(self.context, self.sweep_config)
