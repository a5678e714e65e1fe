"""The trials of a study that other commands ran: their results, fetched from MLflow."""

from dataclasses import replace
from pathlib import Path

from optuna import Study
from optuna.trial import FrozenTrial, TrialState

from kdsweep.results.result import JobResult, SweepInfo
from kdsweep.sweeps.search.trials import RUN, counted
from kdsweep.tracking import results_of_runs


def fetch_earlier(study: Study, folder: Path, tracking_uri: str) -> None:
    """Put them beside those of this sweep, and name their runs in what it tells of itself.

    What MLflow no longer has is told. Raises KdsweepError if it does not answer.
    """
    here = {result.number for result in JobResult.load_all(folder)}
    missing = [each for each in counted(study) if each.state.is_finished() and each.number not in here]
    if not missing:
        return
    runs = [str(trial.user_attrs[RUN]) for trial in missing if RUN in trial.user_attrs]
    found = results_of_runs(tracking_uri, runs)
    for result in found.values():
        there = folder / str(result.number)
        there.mkdir(exist_ok=True)
        result.save(there)
    sweep = SweepInfo.load(folder)
    replace(sweep, earlier=list(found)).save(folder)
    _tell_lost([each for each in missing if each.user_attrs.get(RUN) not in found])


def _tell_lost(trials: list[FrozenTrial]) -> None:
    lost = [str(trial.number) for trial in trials if trial.state == TrialState.COMPLETE]
    if lost:
        which, has = ("trial", "is") if len(lost) == 1 else ("trials", "are")
        print(f"{which} {', '.join(lost)} {has} not in the table: MLflow no longer has what came of it")
