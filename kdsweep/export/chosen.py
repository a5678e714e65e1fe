"""The network to export: its sweep, job and role, and where its weights are."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from kdsweep import config
from kdsweep.analysis.combine import together
from kdsweep.analysis.leaderboard import best_jobs, leaderboard
from kdsweep.config import Tracking, is_file
from kdsweep.config.code import own_files, source_digest
from kdsweep.data.arrays import missing
from kdsweep.data.dataset import Dataset, load
from kdsweep.errors import DataError, KdsweepError
from kdsweep.networks.weights import WEIGHTS
from kdsweep.results.network import NetworkResult
from kdsweep.results.record import Record
from kdsweep.results.result import JobResult, SweepInfo
from kdsweep.store.place import open_store
from kdsweep.store.store import MARKER, Store
from kdsweep.tracking import download


@dataclass(frozen=True)
class Chosen:
    """A trained network of a job, by its role in it."""

    sweep: SweepInfo
    result: JobResult
    role: str = "student"

    @property
    def network(self) -> NetworkResult:
        return self.result.networks[self.role]

    @property
    def title(self) -> str:
        """The network as people name it: mlp, student of T=4 α=0.5."""
        job = f" of {self.result.name}" if self.result.name else ""
        return f"{self.network.name}, {self.role}{job}"

    def code(self) -> dict[str, Path]:
        """The files of a user's own network, by module; none for an installed network.

        Raises KdsweepError if they are missing, or have changed since the network was trained.
        """
        model, trained = self.network.model, self.network.source
        if trained and source_digest(model) != trained:
            problem = "has changed since it was trained" if source_digest(model) else "cannot be found here"
            raise KdsweepError(
                f"{self.title}: the code of {model['_target_']} {problem}; start in the folder that has the "
                "code of the training, or train again"
            )
        return own_files(model)


def choose(records: Sequence[Record], job: int | None = None, role: str = "student") -> Chosen:
    """The network of a role in the job of that number, or else in the best recipe's best job by validation.

    Raises KdsweepError if there is no such network, or if several are possible.
    """
    sweep, best = _of_number(records, job) if job is not None else _best(records)
    roles = [name for name, network in best.networks.items() if not network.members]
    if role not in roles:
        why = "is an average of networks, not one" if role in best.networks else "the job has no such role"
        raise KdsweepError(f"--role {role}: {why}; allowed: {', '.join(roles)}")
    if is_file(best.networks[role].model):
        raise KdsweepError(f"--role {role}: {best.networks[role].name} is a file of its own already")
    return Chosen(sweep, best, role)


def best_of_each(records: Sequence[Record]) -> dict[str, tuple[SweepInfo, JobResult] | None]:
    """The best recipe's best job of each data set, as in the report, which combines sweeps; None for a data
    set of which no image was held back to choose by."""
    origins = {_identity(result): (record.sweep, result) for record in records for result in record.finished}
    rows = leaderboard(together(records))
    best = best_jobs(rows)
    return {
        name: origins[_identity(best[name])] if name in best else None
        for name in dict.fromkeys(row.dataset for row in rows)
    }


def _identity(result: JobResult) -> tuple[str | None, str]:
    return result.run_id, result.student.key


def _best(records: Sequence[Record]) -> tuple[SweepInfo, JobResult]:
    best = best_of_each(records)
    names = list(best)
    if not names:
        failed = [result for record in records for result in record.results]
        why = f"; job {failed[0].number}: {failed[0].error}".splitlines()[0] if failed else ""
        raise KdsweepError(f"nothing to export: no job of the sweep has finished{why}")
    if len(names) > 1:
        raise KdsweepError(
            f"the jobs use several data sets ({', '.join(names)}), so none is the best; choose one by --job N"
        )
    found = best[names[0]]
    if found is None:
        numbers = ", ".join(str(result.number) for record in records for result in record.finished)
        raise KdsweepError(
            "no image was held back for validation (dataset.val_fraction=0), so no job is the best; choose "
            f"one by --job N, allowed: {numbers}"
        )
    return found


def _of_number(records: Sequence[Record], job: int) -> tuple[SweepInfo, JobResult]:
    if len(records) > 1:
        runs = ", ".join(record.sweep.run_id for record in records)
        raise KdsweepError(f"--job {job}: there are {len(records)} sweeps; name one of them: {runs}")
    (record,) = records
    found = next((result for result in record.finished if result.number == job), None)
    if found is None:
        numbers = ", ".join(str(result.number) for result in record.finished)
        raise KdsweepError(f"--job {job}: no such job has finished; allowed: {numbers or 'none'}")
    return record.sweep, found


def weights_file(chosen: Chosen, tracking: Tracking) -> Path:
    """The safetensors file of the network, from the store or from the student's run in MLflow.

    Raises KdsweepError if neither has it.
    """
    store = _store(chosen)
    if store and (entry := store.find(chosen.network.key)):
        return entry / WEIGHTS
    if chosen.role != "student" or not chosen.result.run_id:
        where = chosen.result.config["store"]
        raise KdsweepError(
            f"{chosen.title}: its weights are not in the store ({where}), and MLflow has only the student's; "
            "start in the folder where the sweep was started, or run its command again"
        )
    return download(tracking, f"runs:/{chosen.result.run_id}/{WEIGHTS}")


def _store(chosen: Chosen) -> Store | None:
    """The store of the job's config, or None if it is missing: an export makes no store."""
    folder = Path(chosen.result.config["store"])
    return open_store(folder) if (folder / MARKER).is_file() else None


def images_of(chosen: Chosen, aside: str | Path) -> Dataset:
    """The data set that the network was trained on; nothing is downloaded.

    The folder `aside` gets its decoded images if the store is gone. Raises DataError if the data set is
    missing or has changed.
    """
    described = chosen.result.dataset
    try:
        recipe: config.Dataset = TypeAdapter(config.Dataset).validate_python(described["config"])
    except ValidationError as error:
        raise DataError(
            f"another version of kdsweep described the data set ({error.errors()[0]['msg']})"
        ) from error
    if isinstance(recipe, config.ArrayDataset) and (absent := missing(recipe.source, Path(recipe.root))):
        raise DataError(f"{recipe.root}: has no {absent[0]}")
    dataset = load(recipe, _store(chosen) or Store(aside))
    if dataset.test_fingerprint != described["test_fingerprint"]:
        raise DataError(f"{recipe.root}: the images have changed since the network was trained")
    return dataset
