"""A sweep and its jobs' results, the input of reports and exports."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from kdsweep.results.result import JobResult, SweepInfo


@dataclass(frozen=True)
class Record:
    """A sweep and the results of its jobs; a job alone is a sweep of itself."""

    sweep: SweepInfo
    results: Sequence[JobResult]
    folder: Path | None = field(default=None, compare=False)  # the source of the record
    confirmations: Sequence[JobResult] = ()  # of jobs with fresh seeds, which choose nothing
    trials: Sequence[JobResult] = ()  # of methods, which only chose what the results compare

    def __post_init__(self) -> None:
        confirming = [result for result in self.results if result.confirms]
        if not confirming:
            return
        rest = [result for result in self.results if not result.confirms]
        if self.sweep.config.get("tune"):
            object.__setattr__(self, "trials", [*self.trials, *rest])
            object.__setattr__(self, "results", [replace(each, confirms=False) for each in confirming])
        else:
            object.__setattr__(self, "results", rest)
            object.__setattr__(self, "confirmations", [*self.confirmations, *confirming])

    @property
    def confirmation(self) -> "Record":
        """The confirming jobs as a sweep of their own."""
        return Record(self.sweep, [replace(result, confirms=False) for result in self.confirmations])

    @property
    def finished(self) -> list[JobResult]:
        return [result for result in self.results if not result.error]
