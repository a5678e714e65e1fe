"""A sweep and what its jobs left, as reports and exports take them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from kdsweep.results.result import JobResult, SweepInfo


@dataclass(frozen=True)
class Record:
    """A sweep and the results of its jobs; a job alone is a sweep of itself."""

    sweep: SweepInfo
    results: Sequence[JobResult]
    folder: Path | None = field(default=None, compare=False)  # from which it was read
    confirmations: Sequence[JobResult] = ()  # jobs with fresh seeds, which have no part in what is chosen

    def __post_init__(self) -> None:
        confirming = [result for result in self.results if result.confirms]
        if confirming:
            rest = [result for result in self.results if not result.confirms]
            object.__setattr__(self, "results", rest)
            object.__setattr__(self, "confirmations", [*self.confirmations, *confirming])

    @property
    def confirmation(self) -> "Record":
        """The jobs that confirm, as a sweep of their own."""
        return Record(self.sweep, [replace(result, confirms=False) for result in self.confirmations])

    @property
    def finished(self) -> list[JobResult]:
        return [result for result in self.results if not result.error]
