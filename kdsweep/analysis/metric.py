"""The figures of networks that pictures and charts draw, one at a time."""

from collections.abc import Sequence
from dataclasses import dataclass

from kdsweep.analysis.measured import figure_of
from kdsweep.analysis.statistics import Interval, interval
from kdsweep.results.result import JobResult


@dataclass(frozen=True)
class Metric:
    """A figure of a network as it is drawn; `percent` of those that are shares."""

    name: str
    figure: str
    percent: bool
    higher_is_better: bool = True

    def of(self, result: JobResult, role: str) -> float | None:
        if self.figure == "val/accuracy":
            value = result.networks[role].val.accuracy if role in result.networks else None
        else:
            value = result.test(role, self._figure([result], role))
        return None if value is None else value * self._unit

    def over(self, jobs: Sequence[JobResult], role: str) -> Interval | None:
        """Over the seeds of the jobs and, of the test split, over its images; None where no job has it."""
        if self.figure == "val/accuracy":
            values = [value for job in jobs if (value := self.of(job, role)) is not None]
            return interval(values) if values else None
        found = figure_of(jobs, role, self._figure(jobs, role))
        return found.interval().times(self._unit) if found else None

    def _figure(self, jobs: Sequence[JobResult], role: str) -> str:
        """F1 of the positive class, or else the mean of all classes'."""
        macro = self.figure == "f1" and all(job.test(role, "f1") is None for job in jobs)
        return "macro_f1" if macro else self.figure

    @property
    def _unit(self) -> float:
        return 100 if self.percent else 1
