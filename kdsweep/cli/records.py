"""Read the records of sweeps, from their folders or from MLflow."""

from dataclasses import replace
from pathlib import Path

from kdsweep.errors import KdsweepError
from kdsweep.results.record import Record
from kdsweep.results.result import RESULT, SWEEP, JobResult, SweepInfo


def read(named: str, tracking_uri: str) -> list[Record]:
    """The sweeps that `named` stands for, the oldest first: the folder of a sweep or of a job, the id of an
    MLflow run (a sweep's or a job's), or the name or id of an MLflow experiment.

    Raises KdsweepError if no such sweep exists, it cannot be read, or MLflow does not answer.
    """
    folder = Path(named)
    try:
        if (folder / SWEEP).is_file():
            return [
                Record(SweepInfo.load(folder), [_whole(each) for each in JobResult.load_all(folder)], folder)
            ]
        if (folder / RESULT).is_file():  # a job of a sweep
            result, above = _whole(JobResult.load(folder)), folder.absolute().parent
            known = (
                SweepInfo.load(above) if (above / SWEEP).is_file() else SweepInfo("", list(result.swept), 1)
            )
            return [Record(replace(known, run_id=result.run_id or "", jobs=1), [result], folder)]
    except (OSError, ValueError, TypeError) as error:
        raise KdsweepError(
            f"{folder}: its records cannot be read ({error}); remove them, or run the sweep again"
        ) from error
    from kdsweep.tracking import sweeps_in_mlflow

    try:
        return [Record(sweep, results) for sweep, results in sweeps_in_mlflow(tracking_uri, named)]
    except KdsweepError as error:
        if folder.is_dir():  # an experiment may have its name
            raise KdsweepError(
                f"{folder}: has no {SWEEP}, nor a {RESULT}; give the folder of a sweep or job"
            ) from error
        raise


def _whole(result: JobResult) -> JobResult:
    """The result. Raises ValueError if the job finished without a student."""
    if not result.error and "student" not in result.networks:
        raise ValueError(f"{RESULT} of job {result.number}: has no student, though the job has finished")
    return result
