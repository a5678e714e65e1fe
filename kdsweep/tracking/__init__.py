"""MLflow: runs, params, metrics, artifacts. Nothing else imports mlflow."""

from kdsweep.tracking.client import download
from kdsweep.tracking.read import runs_of_store, sweeps_in_mlflow
from kdsweep.tracking.run import LOCK_TAG, NUMBER_TAG, ROLE_TAG, SWEEP_TAG, SWEPT_TAG, USED_TAG, Run
from kdsweep.tracking.tracker import Tracker

__all__ = [
    "LOCK_TAG",
    "NUMBER_TAG",
    "ROLE_TAG",
    "SWEEP_TAG",
    "SWEPT_TAG",
    "USED_TAG",
    "Run",
    "Tracker",
    "download",
    "runs_of_store",
    "sweeps_in_mlflow",
]
