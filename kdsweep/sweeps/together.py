"""Which stages of a sweep may train in one pass: planned before its jobs begin."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from kdsweep.stages.companions import MOST, Companions, groups
from kdsweep.sweeps.launchers.base import jobs_at_once, shares_store

if TYPE_CHECKING:
    from kdsweep.stages.prepare import Job


def leave_companions(config: DictConfig, folder: Path, prepared: "Sequence[Job]") -> None:
    """Write into the sweep's folder which stages of its jobs may train in one pass.

    Where jobs exchange stages, or as many run as there is room for, each trains its own, unless a number was
    asked for.
    """
    together, at_once = prepared[0].config.hardware.together, jobs_at_once(config)
    if together == "off" or not shares_store(config) or (at_once is None and together == "auto"):
        return
    most = MOST if together == "auto" else int(together)
    Companions.leave(folder, groups([job.plan.links() for job in prepared], at_once or 1, most))
