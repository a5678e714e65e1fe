"""A job of a sweep, in the process that its launcher started."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from kdsweep.results.result import JobResult, SweepInfo
from kdsweep.sweeps.overrides import swept_values

if TYPE_CHECKING:
    from kdsweep.results.events import Event


def run_job_of_sweep(
    composed: DictConfig,
    watch: Callable[["Event"], None] = lambda event: None,
    ended: Callable[[JobResult], None] = lambda result: None,
) -> float | list[float] | None:
    """Run the job that Hydra has set up; return its objective.

    `watch` gets the training's events, `ended` the result, however the job ended.
    """
    from kdsweep.job import run_job

    context = HydraConfig.get()
    sweep = SweepInfo.load(Path(context.sweep.dir))
    result = sweep.result(context.job.num, swept_values(context.overrides.task, sweep.keys))
    try:
        run_job(composed, Path(context.runtime.output_dir), result, sweep, watch)
    finally:
        ended(result)
    return result.objective
