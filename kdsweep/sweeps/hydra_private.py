"""Private parts of Hydra that kdsweep uses; a test fails when they change."""

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn, JobStatus

# Hydra's default launcher, which runs one job after the other in this process.
BASIC_LAUNCHER = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"


def completed(overrides: Sequence[str], value: Any) -> JobReturn:
    """The return of a job that gave `value`."""
    return JobReturn(list(overrides), status=JobStatus.COMPLETED, _return_value=value)


def failed(overrides: Sequence[str], error: Exception) -> JobReturn:
    """The return of a job that ended with `error`."""
    return JobReturn(list(overrides), status=JobStatus.FAILED, _return_value=error)


def came_to(job: JobReturn) -> Any:
    """The value or the error; Hydra's own property would print a message and raise the error."""
    return job._return_value
