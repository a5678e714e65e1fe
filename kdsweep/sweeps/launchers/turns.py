"""Whose turn it is where nodes have stores of their own, whose locks do not reach across."""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence

from omegaconf import DictConfig, open_dict

from kdsweep.errors import explain

log = logging.getLogger(__name__)


class Turns:
    """Of the jobs that share an untrained stage one goes first, the others once it is done.

    `untrained` has, per job, the keys of the stages that it would train.
    """

    def __init__(self, untrained: Iterable[Iterable[str]]) -> None:
        wanted = [set(keys) for keys in untrained]
        jobs = Counter(key for keys in wanted for key in keys)
        self.waits_for = [{key for key in keys if jobs[key] > 1} for keys in wanted]
        self.under_way: set[str] = set()

    def may_begin(self, job: int) -> bool:
        return not self.waits_for[job] & self.under_way

    def begin(self, job: int) -> None:
        self.under_way |= self.waits_for[job]

    def end(self, job: int, done: bool) -> None:
        """A job that failed may have left its stages untrained: then another goes first."""
        ended = self.waits_for[job]
        self.under_way -= ended
        if done:
            self.waits_for = [keys - ended for keys in self.waits_for]


def untrained(configs: Sequence[DictConfig]) -> list[list[str]]:
    """Per job, the keys of its stages that MLflow has not kept for nodes to fetch."""
    from kdsweep.config.parse import parse
    from kdsweep.job import prepare
    from kdsweep.tracking import Tracker

    jobs = []
    for config in configs:
        plain = config.copy()
        with open_dict(plain):
            del plain["hydra"]
        jobs.append(prepare(parse(plain)))
    if not jobs:
        return []
    planned = [[stage.key for stage in job.plan.links().values()] for job in jobs]
    try:
        tracker = Tracker(jobs[0].config.tracking, jobs[0].store)
        kept = {key for key in {key for keys in planned for key in keys} if tracker.run_that_kept(key)}
    except Exception as error:  # then they are not fetched either
        log.warning("MLflow is lost, stages that it may have are trained again: %s", explain(error))
        kept = set()
    return [[key for key in keys if key not in kept] for keys in planned]
