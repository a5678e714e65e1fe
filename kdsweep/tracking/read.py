"""What MLflow knows of runs that are over."""

import json
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from kdsweep.errors import KdsweepError
from kdsweep.result import INTERRUPTED, PRUNED, RESULT, SWEEP, Result, Sweep
from kdsweep.tracking.client import connect, silent
from kdsweep.tracking.run import ERROR_TAG, NUMBER_TAG, ROLE_TAG, SWEPT_TAG, USED_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

DOWNLOADS = 8  # at a time


def runs_of_store(uri: str) -> Iterator[tuple[str, str, list[str], bool]]:
    """Every run's id, name, keys of what it needs of the store, and whether it was deleted.

    Raises KdsweepError if MLflow does not answer; a database that is not there is not made.
    """
    client = _existing(uri)
    from mlflow.entities import ViewType

    try:
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


def _existing(uri: str) -> "MlflowClient":
    """A client of what is there: a database that is not there is not made."""
    file = uri.removeprefix("sqlite:///").split("?")[0]
    if file != uri and not Path(file).exists():
        raise KdsweepError(f"tracking.uri={uri}: no such database; give --tracking-uri")
    return connect(uri)


def sweeps_in_mlflow(uri: str, named: str) -> list[tuple[Sweep, list[Result]]]:
    """The sweeps that `named` stands for, the oldest first: a parent run, a job's run (a sweep of itself), or
    an experiment by name or id.

    Raises KdsweepError if there is none, or MLflow does not answer.
    """
    client = _existing(uri)
    try:
        parents = list(_runs_of(client, named))
        found = [_sweep(client, run) for run in parents]
    except KdsweepError:
        raise
    except Exception as error:
        raise silent(uri, error) from error
    if not found:
        raise KdsweepError(
            f"{named}: no sweep of that name; give the folder of a sweep, the id of a run, or the name of an "
            f"experiment of {uri}"
        )
    return found


def _runs_of(client: "MlflowClient", named: str) -> "Iterator[Run]":
    from mlflow.exceptions import MlflowException

    try:
        yield client.get_run(named)
        return
    except MlflowException:  # no run of that id
        pass
    experiment = client.get_experiment_by_name(named)
    if experiment is None and named.isdigit():
        experiment = client.get_experiment(named)
    if experiment is not None:
        yield from _search(client, experiment.experiment_id, f"tags.`{ROLE_TAG}` = 'sweep'")


def _sweep(client: "MlflowClient", parent: "Run") -> tuple[Sweep, list[Result]]:
    """A parent run with its jobs, in their order; of what was tried twice, what finished."""
    with tempfile.TemporaryDirectory() as there, ThreadPoolExecutor(DOWNLOADS) as pool:
        folder = Path(there)

        def fetch(run: "Run") -> Result:
            return _result(client, run, folder)

        if parent.data.tags.get(ROLE_TAG) != "sweep":
            result = fetch(parent)
            return Sweep(parent.info.run_id, list(result.swept), 1), [result]
        sweep = Sweep.load(_artifact(client, parent, SWEEP, folder))
        of_sweep = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
        results = list(pool.map(fetch, _search(client, parent.info.experiment_id, of_sweep)))
    finished = {result.name for result in results if not result.error}
    kept = [each for each in results if not each.error or each.name not in finished]
    return sweep, sorted(kept, key=lambda result: result.number)


def _result(client: "MlflowClient", run: "Run", folder: Path) -> Result:
    """What a job left; of one whose process died, what its tags say."""
    try:
        return Result.load(_artifact(client, run, RESULT, folder))
    except (ValueError, TypeError) as error:
        raise KdsweepError(f"run {run.info.run_id}: its {RESULT} cannot be read ({error})") from error
    except (KdsweepError, OSError):
        tags = run.data.tags
        swept = json.loads(tags.get(SWEPT_TAG, "{}"))
        pruned = PRUNED if tags.get("kdsweep.pruned") else None
        reason = tags.get(ERROR_TAG) or pruned or INTERRUPTED
        return Result(int(tags.get(NUMBER_TAG, 0)), swept, run_id=run.info.run_id, error=reason)


def _artifact(client: "MlflowClient", run: "Run", name: str, folder: Path) -> Path:
    """The folder into which an artifact of a run was fetched."""
    there: Path = folder / run.info.run_id
    there.mkdir(exist_ok=True)
    try:
        client.download_artifacts(run.info.run_id, name, str(there))
    except Exception as error:
        raise KdsweepError(f"run {run.info.run_id} has no {name}; it is of another program") from error
    return there


def _search(client: "MlflowClient", experiment: str, which: str) -> "list[Run]":
    """Every run, the oldest first."""
    runs: list[Run] = []
    token: str | None = ""
    while token is not None:
        page = client.search_runs([experiment], which, 1, 1000, ["attributes.start_time ASC"], token or None)
        runs += page
        token = page.token or None
    return runs
