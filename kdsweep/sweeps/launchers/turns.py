"""The order of jobs whose nodes have stores of their own, without locks across nodes."""

import logging
from collections.abc import Iterable, Sequence

from kdsweep.config import Tracking
from kdsweep.errors import KdsweepError
from kdsweep.results.result import SweepInfo
from kdsweep.stages.graph import Graph

log = logging.getLogger(__name__)


def turns(sweep: SweepInfo | None, jobs: Sequence[Sequence[str]]) -> Graph:
    """The stages of jobs by their overrides: of jobs that share an untrained stage, one goes first.

    A job that is not planned, which confirms the sweep with its own seed, shares none. Without `sweep` the
    jobs have a common store, whose locks suffice: none waits.
    """
    if sweep is None:
        return Graph([[] for _ in jobs])
    known = {tuple(job.overrides): job.stages for job in sweep.planned}
    needed = [known.get(tuple(overrides), []) for overrides in jobs]
    return Graph(needed, trained=_kept(sweep, {key for keys in needed for key in keys}))


def _kept(sweep: SweepInfo, keys: Iterable[str]) -> set[str]:
    """The stages that nodes can fetch from MLflow."""
    from kdsweep.store.place import open_store
    from kdsweep.tracking import Tracker

    try:
        tracking = Tracking.model_validate(sweep.config["tracking"])
        return Tracker(tracking, open_store(sweep.config["store"])).kept(keys)
    except KdsweepError as error:  # then nodes cannot fetch stages either
        log.warning("%s; stages that it may have are trained again", error)
        return set()
