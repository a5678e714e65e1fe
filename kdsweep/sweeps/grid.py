"""The sweeper of every combination: Hydra's basic one, for jobs that are checked already, and `confirm`.

Hydra imports this module at every start: keep it light.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper, BasicSweeperConf
from hydra.core.config_store import ConfigStore
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from kdsweep.errors import ConfigError
from kdsweep.results.result import SWEEP
from kdsweep.sweeps.compose import SweepLoader
from kdsweep.sweeps.confirm import confirm


class GridSweeper(BasicSweeper):
    """Hydra's own, but that jobs are not composed before the first runs: SweepCallback has checked them.

    Its launcher has a SweepLoader.
    """

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        quick = replace(hydra_context, config_loader=SweepLoader(hydra_context.config_loader))
        super().setup(hydra_context=quick, task_function=task_function, config=config)

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Nothing is left to be found."""

    def sweep(self, arguments: list[str]) -> Any:
        assert self.config is not None and self.launcher is not None
        if not (Path(self.config.hydra.sweep.dir) / SWEEP).is_file():
            raise ConfigError("hydra.callbacks.sweep: must be as it is, it checks the sweep and records it")
        returns = super().sweep(arguments)
        assert self.overrides is not None
        if wanted := self.config.get("confirm"):
            jobs = [job for batch in self.overrides for job in batch]
            confirm(wanted, Path(self.config.hydra.sweep.dir), jobs.__getitem__, self.launcher.launch)
        return returns


@dataclass
class GridSweeperConf(BasicSweeperConf):
    _target_: str = "kdsweep.sweeps.grid.GridSweeper"


ConfigStore.instance().store(
    group="hydra/sweeper", name="kdsweep_grid", node=GridSweeperConf, provider="kdsweep"
)
