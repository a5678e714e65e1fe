"""What sweeps left behind: read from their folders, or from MLflow alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kdsweep.errors import KdsweepError
from kdsweep.result import RESULT, SWEEP, Result, Sweep


@dataclass(frozen=True)
class Record:
    """A sweep and the results of its jobs; a job alone is a sweep of itself."""

    sweep: Sweep
    results: Sequence[Result]

    @property
    def finished(self) -> list[Result]:
        return [result for result in self.results if not result.error]


def read(named: str, tracking_uri: str) -> list[Record]:
    """The sweeps that `named` stands for, the oldest first.

    That is the folder of a sweep or of a job, the id of an MLflow run (a parent, or a job's), or the name or
    id of an MLflow experiment.

    Raises KdsweepError if there is no such sweep, it cannot be read, or MLflow does not answer.
    """
    folder = Path(named)
    try:
        if (folder / SWEEP).is_file():
            return [Record(Sweep.load(folder), Result.load_all(folder))]
        if (folder / RESULT).is_file():
            result = Result.load(folder)
            return [Record(Sweep(result.run_id or "", list(result.swept), 1), [result])]
    except (OSError, ValueError, TypeError) as error:
        raise KdsweepError(f"{folder}: what the sweep left there cannot be read ({error})") from error
    if folder.is_dir():
        raise KdsweepError(f"{folder}: has no {SWEEP}, nor a {RESULT}; give the folder of a sweep or job")
    from kdsweep.tracking import sweeps_in_mlflow

    return [Record(sweep, results) for sweep, results in sweeps_in_mlflow(tracking_uri, named)]
