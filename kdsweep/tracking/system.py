"""The load of the machine, logged with the runs that cause it."""

import logging
from typing import TYPE_CHECKING

from kdsweep.tracking.client import losses

if TYPE_CHECKING:
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

log = logging.getLogger(__name__)


def monitor(run_id: str, uri: str) -> "SystemMetricsMonitor | None":
    """MLflow's monitor of the machine, started for a run if MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING is true."""
    from mlflow.environment_variables import MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING

    if not MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING.get():
        return None
    try:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        begun = SystemMetricsMonitor(run_id, tracking_uri=uri)
        begun.start()
    except losses() as error:
        log.warning("system metrics are not logged (%s); they need pip install psutil", error)
        return None
    return begun
