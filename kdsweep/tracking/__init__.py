"""MLflow: runs, params, metrics, artifacts. Nothing else imports mlflow."""

from kdsweep.tracking.client import download
from kdsweep.tracking.job import begin_run, log_figures
from kdsweep.tracking.read import results_of_runs, runs_of_store, sweeps_in_mlflow
from kdsweep.tracking.run import LOCK_TAG, ROLE_TAG, SWEEP_TAG, Run
from kdsweep.tracking.tracker import Tracker

__all__ = [
    "LOCK_TAG",
    "ROLE_TAG",
    "SWEEP_TAG",
    "Run",
    "Tracker",
    "begin_run",
    "download",
    "log_figures",
    "results_of_runs",
    "runs_of_store",
    "sweeps_in_mlflow",
]
