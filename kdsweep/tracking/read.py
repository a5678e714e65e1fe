"""Read past runs from MLflow."""

import json
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from kdsweep.errors import KdsweepError
from kdsweep.results.names import options_of
from kdsweep.results.result import INTERRUPTED, PRUNED, RESULT, SWEEP, JobResult, SweepInfo
from kdsweep.tracking.client import answering, connect, losses
from kdsweep.tracking.database import database_file
from kdsweep.tracking.run import CONFIRMS_TAG, ERROR_TAG, NUMBER_TAG, ROLE_TAG, SWEPT_TAG, USED_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

log = logging.getLogger(__name__)

DOWNLOADS = 8  # at a time
Found = TypeVar("Found")
Loaded = TypeVar("Loaded", SweepInfo, JobResult)


def runs_of_store(uri: str) -> Iterator[tuple[str, str, list[str], bool]]:
    """Every run's id, name, keys of what it needs of the store, and whether it was deleted.

    Raises KdsweepError if MLflow does not answer; a missing database is not made.
    """
    client = _existing(uri)
    from mlflow.entities import ViewType

    with answering(uri):
        found = [
            (run, experiment)
            for experiment in client.search_experiments(view_type=ViewType.ALL)
            for run in _search(client, experiment.experiment_id, "", ViewType.ALL)
        ]
    for run, experiment in found:
        keys = run.data.tags.get(USED_TAG, "")
        deleted = "deleted" in (run.info.lifecycle_stage, experiment.lifecycle_stage)
        yield run.info.run_id, run.info.run_name, keys.split(",") if keys else [], deleted


def _existing(uri: str) -> "MlflowClient":
    """A client, without making a missing database."""
    file = database_file(uri)
    if file and not file.exists():
        raise KdsweepError(f"tracking.uri={uri}: no such database; give --tracking-uri")
    if file and not file.is_file():  # MLflow would try for a minute
        raise KdsweepError(f"tracking.uri={uri}: {file} is not a file; give --tracking-uri")
    return connect(uri)


def sweeps_in_mlflow(uri: str, named: str) -> list[tuple[SweepInfo, list[JobResult]]]:
    """The sweeps that `named` stands for, the oldest first: a parent run, a job's run (its own sweep), or an
    experiment by name or id.

    Raises KdsweepError if there is none, or MLflow does not answer.
    """
    client = _existing(uri)
    with answering(uri):
        found = list(_sweeps(client, named))
    if not found:
        raise KdsweepError(
            f"{named}: no sweep of that name; give the folder of a sweep, the id of a run, or the name of an "
            f"experiment of {uri}"
        )
    return found


def results_of_runs(uri: str, run_ids: Sequence[str]) -> dict[str, JobResult]:
    """The results of jobs by the ids of their runs, without runs that MLflow no longer has.

    Raises KdsweepError if MLflow does not answer.
    """
    if not run_ids:
        return {}
    client = _existing(uri)
    with answering(uri), tempfile.TemporaryDirectory() as there, ThreadPoolExecutor(DOWNLOADS) as pool:
        found = list(pool.map(lambda run_id: _of_run(client, run_id, Path(there)), run_ids))
    return {run_id: result for run_id, result in zip(run_ids, found, strict=True) if result}


def _of_run(client: "MlflowClient", run_id: str, folder: Path) -> JobResult | None:
    """A job's result; None if its run was deleted."""
    run = _lookup(client.get_run, run_id)
    return _result(client, run, folder) if run and run.info.lifecycle_stage == "active" else None


def _sweeps(client: "MlflowClient", named: str) -> Iterator[tuple[SweepInfo, list[JobResult]]]:
    """The sweep of a run; or all of an experiment, with its finished jobs alone.

    Sweeps of an experiment that cannot be read are skipped with a warning.
    """
    if run := _lookup(client.get_run, named):
        yield _sweep(client, run)
        return
    experiment = client.get_experiment_by_name(named)
    if experiment is None and named.isdigit():
        experiment = _lookup(client.get_experiment, named)
    if experiment is None:
        return
    for run in _search(client, experiment.experiment_id, f"tags.`{ROLE_TAG}` LIKE '%'"):
        if not _is_sweep(run) and ("mlflow.parentRunId" in run.data.tags or run.info.status != "FINISHED"):
            continue
        try:
            yield _sweep(client, run)
        except KdsweepError as error:
            log.warning("skipped a sweep: %s", error)


def _is_sweep(run: "Run") -> bool:
    return run.data.tags.get(ROLE_TAG) == "sweep"


def _lookup(get: Callable[[str], Found], identifier: str) -> Found | None:
    """What MLflow has under an id; None if it has nothing."""
    from mlflow.exceptions import MlflowException

    try:
        return get(identifier)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def _sweep(client: "MlflowClient", parent: "Run") -> tuple[SweepInfo, list[JobResult]]:
    """A parent run with its jobs, by number; of a job that ran twice, the finished run."""
    with tempfile.TemporaryDirectory() as there, ThreadPoolExecutor(DOWNLOADS) as pool:
        folder = Path(there)
        if not _is_sweep(parent):
            return _job(client, parent, folder)
        sweep = _loaded(SweepInfo, client, parent, SWEEP, folder)
        if sweep is None:
            raise KdsweepError(f"run {parent.info.run_id} has no {SWEEP}: it was killed at its start")
        of_sweep = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
        children = _search(client, parent.info.experiment_id, of_sweep)
        fetched = list(pool.map(lambda run: _result(client, run, folder), children))
        fetched += pool.map(lambda run_id: _of_run(client, run_id, folder), sweep.earlier)
    results = [each for each in fetched if each]
    for result in results:
        result.options = result.options or options_of(sweep.config)  # a killed job left only tags
    finished = [result.swept for result in results if not result.error]
    kept = [each for each in results if not each.error or each.swept not in finished]
    return sweep, sorted(kept, key=lambda result: result.number)


def _job(client: "MlflowClient", run: "Run", folder: Path) -> tuple[SweepInfo, list[JobResult]]:
    """A job alone, or one of a sweep, as a sweep of its own."""
    result = _result(client, run, folder)
    if result is None or ROLE_TAG not in run.data.tags:
        why = "is under way" if result is None else "is of another program"
        raise KdsweepError(
            f"run {run.info.run_id} {why}; give the run of a sweep, or of a job that has ended"
        )
    parent = run.data.tags.get("mlflow.parentRunId")
    owner = client.get_run(parent) if parent else run
    known = _loaded(SweepInfo, client, owner, SWEEP, folder) or SweepInfo("", list(result.swept), 1)
    return replace(known, run_id=run.info.run_id, jobs=1), [result]


def _result(client: "MlflowClient", run: "Run", folder: Path) -> JobResult | None:
    """A job's result; from its tags if its process died; None if it is under way."""
    result = _loaded(JobResult, client, run, RESULT, folder)
    if result or run.info.status in ("RUNNING", "SCHEDULED"):
        return result
    tags = run.data.tags
    swept = json.loads(tags.get(SWEPT_TAG, "{}"))
    pruned = PRUNED if tags.get("kdsweep.pruned") else None
    reason = tags.get(ERROR_TAG) or pruned or INTERRUPTED
    number, confirms = int(tags.get(NUMBER_TAG, 0)), CONFIRMS_TAG in tags
    return JobResult(number, swept, run_id=run.info.run_id, error=reason, confirms=confirms)


def _loaded(kind: type[Loaded], client: "MlflowClient", run: "Run", name: str, folder: Path) -> Loaded | None:
    """A record among a run's artifacts; None if it has none. Raises KdsweepError if it cannot be read."""
    own = folder / run.info.run_id
    own.mkdir(exist_ok=True)
    try:
        client.download_artifacts(run.info.run_id, name, str(own))
    except losses():
        if any(artifact.path == name for artifact in client.list_artifacts(run.info.run_id)):
            raise  # it exists and could not be fetched
        return None
    try:
        return kind.load(own)
    except (ValueError, TypeError) as error:
        raise KdsweepError(f"run {run.info.run_id}: its {name} cannot be read ({error})") from error


def _search(client: "MlflowClient", experiment: str, which: str, view: int = 1) -> "list[Run]":
    """Every run, the oldest first; another `view` of MLflow's includes deleted runs."""
    runs: list[Run] = []
    oldest = ["attributes.start_time ASC"]
    token: str | None = ""
    while token is not None:
        page = client.search_runs([experiment], which, view, 1000, oldest, token or None)
        runs += page
        token = page.token or None
    return runs
