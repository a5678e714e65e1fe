"""The figures of networks that charts draw, one at a time."""

from collections.abc import Sequence
from dataclasses import dataclass

from kdsweep.analysis.measured import figure_of
from kdsweep.analysis.statistics import Interval, interval
from kdsweep.results.result import JobResult


@dataclass(frozen=True)
class Metric:
    """A figure of a network as a chart draws it; `percent` if it is a share."""

    name: str
    figure: str
    percent: bool
    higher_is_better: bool = True

    def of(self, result: JobResult, role: str) -> float | None:
        if self.figure == "val/accuracy":
            val = result.networks[role].val if role in result.networks else None
            value = val.accuracy if val else None
        else:
            value = result.test(role, self._figure([result], role))
        return None if value is None else value * self._unit

    def over(self, jobs: Sequence[JobResult], role: str) -> Interval | None:
        """The mean over the seeds of the jobs and, for the test split, its images; None if no job has it."""
        if self.figure == "val/accuracy":
            values = [value for job in jobs if (value := self.of(job, role)) is not None]
            return interval(values) if values else None
        found = figure_of(jobs, role, self._figure(jobs, role))
        return found.interval().times(self._unit) if found else None

    def _figure(self, jobs: Sequence[JobResult], role: str) -> str:
        """The figure's name; F1 is that of the positive class, or else the mean over all classes."""
        macro = self.figure == "f1" and all(job.test(role, "f1") is None for job in jobs)
        return "macro_f1" if macro else self.figure

    @property
    def _unit(self) -> float:
        return 100 if self.percent else 1
