"""What kdsweep takes of Hydra that Hydra does not promise; a test fails when it changes.

Hydra imports this module at every start: keep it light.
"""

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn, JobStatus

# The launcher of a config that names none: it runs one job after the other, in this process.
BASIC_LAUNCHER = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"


def completed(overrides: Sequence[str], value: Any) -> JobReturn:
    """What a job returns that came to `value`."""
    return JobReturn(list(overrides), status=JobStatus.COMPLETED, _return_value=value)


def failed(overrides: Sequence[str], error: Exception) -> JobReturn:
    """What a job returns that ended by `error`."""
    return JobReturn(list(overrides), status=JobStatus.FAILED, _return_value=error)


def came_to(job: JobReturn) -> Any:
    """The value or the error; Hydra's own property raises an error, and prints words of its own before."""
    return job._return_value
