"""What MLflow knows of runs that are over."""

from collections.abc import Iterator
from pathlib import Path

from kdsweep.errors import KdsweepError
from kdsweep.tracking.client import connect, silent
from kdsweep.tracking.run import USED_TAG


def runs_of_store(uri: str) -> Iterator[tuple[str, str, list[str], bool]]:
    """Every run's id, name, keys of what it needs of the store, and whether it was deleted.

    Raises KdsweepError if MLflow does not answer; a database that is not there is not made.
    """
    file = uri.removeprefix("sqlite:///").split("?")[0]
    if file != uri and not Path(file).exists():
        raise KdsweepError(f"tracking.uri={uri}: no such database; give --tracking-uri")
    from mlflow.entities import ViewType

    try:
        client = connect(uri)
        for experiment in client.search_experiments(view_type=ViewType.ALL):
            token: str | None = ""
            while token is not None:
                page = client.search_runs(
                    [experiment.experiment_id], "", ViewType.ALL, 1000, None, token or None
                )
                for run in page:
                    tags = run.data.tags
                    keys = tags.get(USED_TAG, tags.get("kdsweep.stage", ""))
                    deleted = "deleted" in (run.info.lifecycle_stage, experiment.lifecycle_stage)
                    yield run.info.run_id, run.info.run_name, keys.split(",") if keys else [], deleted
                token = page.token or None
    except Exception as error:
        raise silent(uri, error) from error
