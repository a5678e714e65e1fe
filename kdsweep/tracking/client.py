"""MLflow's client, and its errors in a line."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from kdsweep.config import Tracking
from kdsweep.errors import KdsweepError
from kdsweep.system.foreign_errors import is_of_another_schema
from kdsweep.tracking.database import anywhere

# The errors of libraries that access servers, databases and artifacts; requests raises OSErrors.
OF_LIBRARIES = (
    "mlflow.exceptions.MlflowException",
    "sqlalchemy.exc.SQLAlchemyError",
    "alembic.util.exc.CommandError",
    "json.decoder.JSONDecodeError",  # the server is no MLflow
    "boto3.exceptions.Boto3Error",
    "botocore.exceptions.BotoCoreError",
    "botocore.exceptions.ClientError",
    "azure.core.exceptions.AzureError",
    "google.api_core.exceptions.GoogleAPIError",
)

if TYPE_CHECKING:
    from mlflow import MlflowClient


def import_mlflow() -> None:
    """Import MLflow, quiet and without retries for minutes, unless the user sets its variables."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow  # noqa: F401

    for chatty in ("mlflow", "alembic", "urllib3"):  # after the import, which sets levels
        logging.getLogger(chatty).setLevel(logging.ERROR)


def connect(uri: str) -> "MlflowClient":
    """MLflow's client. Raises KdsweepError for an address that MLflow refuses."""
    import_mlflow()
    from mlflow import MlflowClient

    with answering(uri):
        return MlflowClient(anywhere(uri))


def losses(*others: type[Exception]) -> tuple[type[Exception], ...]:
    """The errors of MLflow's client without an answer, and `others`; any other error is a bug of ours."""
    named = [name.rpartition(".") for name in OF_LIBRARIES]
    loaded = [getattr(sys.modules[module], kind) for module, _, kind in named if module in sys.modules]
    return OSError, ImportError, *loaded, *others  # a database's driver may not be installed


@contextmanager
def answering(uri: str) -> Iterator[None]:
    """Around calls of MLflow's client. Raises KdsweepError if MLflow does not answer."""
    try:
        yield
    except losses() as error:
        why = f"MLflow does not answer: {reason(error)}"
        if is_of_another_schema(error):
            upgrade = f"`mlflow db upgrade {uri}`"
            why = f"was made by another version of MLflow; copy it, then upgrade it by {upgrade}"
        raise KdsweepError(f"tracking.uri={uri}: {why}") from error


def download(tracking: Tracking, uri: str) -> Path:
    """The file of an artifact, runs:/ID/PATH, fetched once. Raises KdsweepError if that fails."""
    outcome = _downloaded(tracking.uri, uri)
    if isinstance(outcome, KdsweepError):
        raise outcome
    return outcome


@lru_cache
def _downloaded(tracking_uri: str, uri: str) -> Path | KdsweepError:
    """The file, or the error, which is cached too: a sweep's jobs need not all wait for it."""
    import_mlflow()
    from mlflow.artifacts import download_artifacts

    try:
        return Path(download_artifacts(uri, tracking_uri=anywhere(tracking_uri)))
    except losses() as error:
        return KdsweepError(
            f"{uri}: tracking.uri={tracking_uri} cannot deliver it ({reason(error)}); it must be up, and the "
            "run must have this artifact"
        )


def reason(error: Exception) -> str:
    """The first sentence of MLflow's message, without the chain of retries."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text.split(" with exception ")[0].split(". ")[0][:300]
