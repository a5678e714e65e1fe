"""Private parts of Ray that kdsweep uses; a test fails when they change."""

import ray
from ray._private import services


def quiet_deaths() -> None:
    """Silence Ray's messages about workers that die, for which it has no option."""
    ray._private.worker._worker_logs_enabled = False


def address_of_this_machine() -> str | None:
    """HOST:PORT of the cluster that "auto" stands for; ray.init would try for minutes."""
    found: str | None = services.canonicalize_bootstrap_address("auto")
    return found
