"""The plugin that Hydra finds: its config, and a sweeper that imports Optuna when it is made.

Hydra imports this module at every start: keep it light.
"""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra_plugins.hydra_optuna_sweeper.config import OptunaSweeperConf, TPESamplerConfig
from hydra_plugins.hydra_optuna_sweeper.optuna_sweeper import OptunaSweeper


@dataclass
class WorkersTPEConf(TPESamplerConfig):
    """Optuna's default, which the plugin turns off: what another worker is trying is not suggested again."""

    constant_liar: bool = True


@dataclass
class SearchConf(OptunaSweeperConf):
    """Hydra's own keys; those of conf/search/ lead here."""

    _target_: str = "kdsweep.search.sweeper.Search"
    defaults: list[Any] = field(default_factory=lambda: [{"sampler": "workers_tpe"}])
    direction: Any = None  # as the job's objective asks for
    n_jobs: int = 0  # workers; 0: as many as the hardware has room for
    pruner: str = "none"


store = ConfigStore.instance().store
store(group="hydra/sweeper", name="kdsweep", node=SearchConf, provider="kdsweep")
store(group="hydra/sweeper/sampler", name="workers_tpe", node=WorkersTPEConf, provider="kdsweep")


class Search(OptunaSweeper):
    """Hydra's Optuna sweeper with pruning, a study that goes on, and workers that do not wait."""

    def __init__(self, sampler: Any, pruner: str, **plugin: Any) -> None:
        super().__init__(sampler=sampler, **plugin)
        from kdsweep.search.study import SearchImpl

        self.sweeper = SearchImpl(sampler=sampler, pruner=pruner, **plugin)
