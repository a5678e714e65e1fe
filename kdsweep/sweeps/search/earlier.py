"""The results of a study's trials that other commands ran, fetched from MLflow."""

from dataclasses import replace
from pathlib import Path

from optuna import Study
from optuna.trial import TrialState

from kdsweep.results.result import JobResult, SweepInfo
from kdsweep.sweeps.search.trials import RUN, counted
from kdsweep.tracking import results_of_runs


def fetch_earlier(study: Study, folder: Path, tracking_uri: str) -> None:
    """Put them beside the results of this sweep, and add their runs to its record.

    Print the trials that MLflow no longer has. Raises KdsweepError if it does not answer.
    """
    known = {result.number for result in JobResult.load_all(folder)}
    missing = [each for each in counted(study) if each.state.is_finished() and each.number not in known]
    if not missing:
        return
    runs = [str(trial.user_attrs[RUN]) for trial in missing if RUN in trial.user_attrs]
    results = results_of_runs(tracking_uri, runs)
    for result in results.values():
        own = folder / str(result.number)
        own.mkdir(exist_ok=True)
        result.save(own)
    sweep = SweepInfo.load(folder)
    replace(sweep, earlier=list(results)).save(folder)
    gone = [each for each in missing if each.user_attrs.get(RUN) not in results]
    lost = [str(trial.number) for trial in gone if trial.state == TrialState.COMPLETE]
    if len(lost) == 1:
        print(f"trial {lost[0]} is missing from the table: its MLflow run was deleted")
    elif lost:
        print(f"trials {', '.join(lost)} are missing from the table: their MLflow runs were deleted")
