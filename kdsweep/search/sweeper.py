"""The plugin that Hydra finds: its config, and a sweeper that imports Optuna when it is made.

Hydra imports this module at every start: keep it light.
"""

from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra_plugins.hydra_optuna_sweeper.config import OptunaSweeperConf
from hydra_plugins.hydra_optuna_sweeper.optuna_sweeper import OptunaSweeper


@dataclass
class SearchConf(OptunaSweeperConf):
    """Hydra's own keys; those of conf/search/ lead here."""

    _target_: str = "kdsweep.search.sweeper.Search"
    direction: Any = None  # as the job's objective asks for
    n_jobs: int = 0  # workers; 0: as many as the hardware has room for
    pruner: str = "none"


ConfigStore.instance().store(group="hydra/sweeper", name="kdsweep", node=SearchConf, provider="kdsweep")


class Search(OptunaSweeper):
    """Hydra's Optuna sweeper with pruning, a study that goes on, and workers that do not wait."""

    def __init__(self, sampler: Any, pruner: str, **plugin: Any) -> None:
        super().__init__(sampler=sampler, **plugin)
        from kdsweep.search.study import SearchImpl

        self.sweeper = SearchImpl(sampler=sampler, pruner=pruner, **plugin)
