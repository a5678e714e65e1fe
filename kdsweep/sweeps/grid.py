"""The sweeper that runs every combination, which the callback has checked, and then `confirm`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from kdsweep.errors import ConfigError
from kdsweep.results.result import SWEEP
from kdsweep.sweeps.checks import check_jobs
from kdsweep.sweeps.compose import SweepLoader
from kdsweep.sweeps.confirm import confirm
from kdsweep.sweeps.overrides import combinations, count, read_overrides
from kdsweep.sweeps.together import leave_companions
from kdsweep.sweeps.tune import with_trials


class GridSweeper(Sweeper):
    """Hydra's basic sweeper, except that it does not compose all jobs first: SweepCallback has checked them.

    Its launcher gets a SweepLoader.
    """

    def __init__(self, max_batch_size: int | None, params: Mapping[str, str] | None) -> None:
        """`params` are read with the other overrides of the sweep."""
        self.max_batch_size = max_batch_size

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        quick: Any = SweepLoader(hydra_context.config_loader)
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=replace(hydra_context, config_loader=quick),
            task_function=task_function,
            config=config,
        )

    def sweep(self, arguments: list[str]) -> Any:
        config, launcher = self.config, self.launcher
        assert config is not None and launcher is not None
        folder = Path(config.hydra.sweep.dir)
        if not (folder / SWEEP).is_file():
            raise ConfigError("hydra.callbacks.sweep: must stay as it is: it checks the sweep and records it")
        OmegaConf.save(config, folder / "multirun.yaml")
        overrides = read_overrides(config)
        jobs = with_trials(config, combinations(overrides, prod(map(count, overrides))))
        size, returns = self.max_batch_size or len(jobs), []
        for first in range(0, len(jobs), size):
            returns.append(launcher.launch(jobs[first : first + size], initial_job_idx=first))
            for job in returns[-1]:
                _ = job.return_value  # raises what the job raised
        if wanted := config.get("confirm"):

            def launch(jobs: list[list[str]], first: int) -> Sequence[JobReturn]:
                leave_companions(config, folder, check_jobs(config, jobs))
                return launcher.launch(jobs, initial_job_idx=first)

            confirm(wanted, folder, jobs.__getitem__, launch)
        return returns


@dataclass
class GridSweeperConf:
    """The keys of Hydra's basic sweeper."""

    _target_: str = "kdsweep.sweeps.grid.GridSweeper"
    max_batch_size: int | None = None
    params: dict[str, str] | None = None


ConfigStore.instance().store(
    group="hydra/sweeper", name="kdsweep_grid", node=GridSweeperConf, provider="kdsweep"
)
