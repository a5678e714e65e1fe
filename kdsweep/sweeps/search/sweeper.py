"""The plugin that Hydra finds: its config, and a sweeper that imports Optuna only when it runs."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from hydra_plugins.hydra_optuna_sweeper.config import OptunaSweeperConf, TPESamplerConfig
from omegaconf import DictConfig


@dataclass
class WorkersTPEConf(TPESamplerConfig):
    """Do not suggest what another worker is trying; Hydra's plugin turns this default of Optuna's off."""

    constant_liar: bool = True


@dataclass
class SearchConf(OptunaSweeperConf):
    """Hydra's own keys; conf/search/ sets them."""

    _target_: str = "kdsweep.sweeps.search.sweeper.Search"
    defaults: list[Any] = field(default_factory=lambda: [{"sampler": "kdsweep_tpe"}])
    direction: Any = None  # null: the objective's own
    n_jobs: int = 0  # workers; 0: as many as the hardware has room for
    pruner: str = "none"


store = ConfigStore.instance().store
store(group="hydra/sweeper", name="kdsweep_optuna", node=SearchConf, provider="kdsweep")
store(group="hydra/sweeper/sampler", name="kdsweep_tpe", node=WorkersTPEConf, provider="kdsweep")


class Search(Sweeper):
    """Hydra's Optuna sweeper with pruning, a study that resumes, and workers that do not wait."""

    def __init__(self, **options: Any) -> None:
        """The sweep's config has the options, which study.check has checked."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """The launcher follows, once the workers are known."""
        self.context, self.sweep_config = hydra_context, config

    def sweep(self, arguments: list[str]) -> None:
        from kdsweep.sweeps.search.study import search

        search(self.context, self.sweep_config)
