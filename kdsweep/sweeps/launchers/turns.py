"""The order of jobs whose nodes have stores of their own, without locks across nodes."""

import logging
from collections.abc import Iterable, Sequence

from kdsweep.config import Tracking
from kdsweep.errors import KdsweepError
from kdsweep.results.result import SweepInfo
from kdsweep.stages.graph import Graph

log = logging.getLogger(__name__)


def at_once(jobs: Sequence[Sequence[str]]) -> Graph:
    """No job waits for another: the locks of their common store suffice."""
    return Graph([[] for _ in jobs])


def turns(sweep: SweepInfo, jobs: Sequence[Sequence[str]]) -> Graph:
    """The stages of jobs by their overrides: of jobs that share an untrained stage, one goes first.

    A job that is not planned, which confirms the sweep with its own seed, shares none.
    """
    known = {tuple(job.overrides): job.stages for job in sweep.planned}
    needed = [known.get(tuple(overrides), []) for overrides in jobs]
    return Graph(needed, trained=_kept(sweep, {key for keys in needed for key in keys}))


def _kept(sweep: SweepInfo, keys: Iterable[str]) -> set[str]:
    """The stages that nodes can fetch from MLflow."""
    from kdsweep.store.store import open_store
    from kdsweep.tracking import Tracker

    try:
        tracker = Tracker(
            Tracking.model_validate(sweep.config["tracking"]), open_store(sweep.config["store"])
        )
        return tracker.kept(keys)
    except KdsweepError as error:  # then nodes cannot fetch stages either
        log.warning("%s; stages that it may have are trained again", error)
        return set()
