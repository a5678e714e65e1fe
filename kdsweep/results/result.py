"""How a sweep and its jobs communicate: by files in the sweep's folder, whatever the launcher."""

import platform
import shlex
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from kdsweep.errors import ConfigError, without_passwords
from kdsweep.results.dataset import DatasetInfo
from kdsweep.results.names import TEACHER, Option, kind_of, named, options_of
from kdsweep.results.network import Evaluation, NetworkResult, Selection
from kdsweep.results.packed import unpack_bits, unpack_floats
from kdsweep.results.strict import STRICT

if TYPE_CHECKING:
    from numpy.typing import NDArray

SWEEP, RESULT = "sweep.json", "result.json"
OPTIMUM = "optimization_results.yaml"  # of a search, as Hydra's plugin names it
PICTURES = ("sweep.png", "f1.png", "roc_auc.png", "curves.png", "chain.png")
OWN_FILES = (
    f"**/{RESULT}",
    "experiment/*",
    "search/*",
    "together/*",
    OPTIMUM,
    "sweep.csv",
    "trials.csv",
    "sweep.txt",
    "report.html",
    *PICTURES,
)
INTERRUPTED = "interrupted"
PRUNED = "pruned"
PACKAGES = ("kdsweep", "torch", "torchvision", "timm", "hydra-core", "optuna", "mlflow")  # of a sweep


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one image, by the digest of a network's `priced` description; empty on a busy machine.

    `load` is how many of the `cores` other programs used meanwhile.
    """

    __pydantic_config__: ClassVar = STRICT

    ms: dict[str, float]
    load: float
    cores: int
    machine: str


@dataclass(frozen=True)
class PlannedJob:
    """A job before the sweep begins: its overrides, and the keys of the stages that it needs."""

    overrides: list[str]
    stages: list[str]


@dataclass(frozen=True)
class SweepInfo:
    """What a job must know of its sweep: the parent run, the swept keys, the number of jobs, what was swept;
    and its origin: the command, its start (ISO 8601, UTC), the config of the first job, package versions.

    `earlier` are the runs of a resumed search's trials that other commands ran, whose results belong to it
    too. `latency` was measured before the first job began. `planned` has every job by number; it is empty for
    a search, and for a sweep of so many jobs that only some of them are checked.
    """

    __pydantic_config__: ClassVar = STRICT

    run_id: str
    keys: list[str]
    jobs: int
    spec: str = ""
    command: str = ""
    began: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    earlier: list[str] = field(default_factory=list)
    latency: Latency | None = None
    confirm_from: int | None = None  # the number of the first job that only confirms
    planned: list[PlannedJob] = field(default_factory=list)

    def result(self, number: int, swept: dict[str, Any]) -> "JobResult":
        """A new result for a job that begins; until its config is known, the first job's decides its name."""
        confirms = self.confirm_from is not None and number >= self.confirm_from
        return JobResult(number, swept, confirms=confirms, options=options_of(self.config))

    @classmethod
    def begin(cls, run_id: str, spec: str, keys: list[str], jobs: int, config: dict[str, Any]) -> Self:
        """A sweep that begins now, with the command of this process."""
        command = without_passwords(shlex.join(["kdsweep", *sys.argv[1:]]))
        versions = {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
        return cls(
            run_id, keys, jobs, spec, command, datetime.now(UTC).isoformat("T", "seconds"), config, versions
        )

    def save(self, folder: Path) -> Path:
        """Write it into `folder`; return the file."""
        from kdsweep.results.left import as_json

        folder.mkdir(parents=True, exist_ok=True)
        file = folder / SWEEP
        file.write_text(as_json(self), "utf-8")
        return file

    @staticmethod
    def clear(folder: Path) -> None:
        """Remove the files of an earlier sweep from `folder`, which a new one takes over.

        Raises ConfigError if other sweeps or jobs are below it: their results would count as this one's.
        """
        own = folder / SWEEP
        below = folder.rglob(SWEEP) if own.exists() else (*folder.rglob(SWEEP), *folder.rglob(RESULT))
        if other := next((file for file in below if file != own), None):
            raise ConfigError(
                f"hydra.sweep.dir={folder}: contains {other} of another sweep or job; give a new folder"
            )
        if own.exists():
            for pattern in OWN_FILES:
                for old in folder.glob(pattern):
                    old.unlink()

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read it from a folder. Raises ValueError if the file is no sweep's."""
        from kdsweep.results.left import read_left

        return read_left(folder / SWEEP, cls)


@dataclass
class JobResult:
    """A job by its swept values, and its outcome; only `error` if it failed or was pruned.

    `networks` are by role; `chain` lists the roles from teacher to student, without "scratch" and "ensemble".
    `config` is the job's own, without passwords; `options` defines how its method's numbers are written;
    `recipe` names data set, networks and method. `entries` are the keys of what it needs of the store.
    """

    __pydantic_config__: ClassVar = STRICT

    number: int
    swept: dict[str, Any]
    seed: int = 0
    objective: float | list[float] | None = None
    seconds: float = 0.0
    run_id: str | None = None
    networks: dict[str, NetworkResult] = field(default_factory=dict)
    chain: list[str] = field(default_factory=list)
    recipe: dict[str, Any] = field(default_factory=dict)
    dataset: DatasetInfo = field(default_factory=DatasetInfo)
    entries: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Option] = field(default_factory=dict)
    error: str | None = None
    confirms: bool = (
        False  # it has a fresh seed for the recipe that the sweep chose, and chooses nothing itself
    )

    def save(self, folder: Path) -> Path:
        """Write it into `folder`; return the file."""
        from kdsweep.results.left import as_json

        new = folder / f"{RESULT}.new"
        new.write_text(as_json(self), "utf-8")
        return new.replace(folder / RESULT)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read it from a folder. Raises ValueError if the file is no job's."""
        from kdsweep.results.left import read_left

        return read_left(folder / RESULT, cls)

    @classmethod
    def load_all(cls, folder: Path) -> list[Self]:
        """The results of all jobs below `folder`, by number."""
        results = [cls.load(file.parent) for file in folder.rglob(RESULT)]
        return sorted(results, key=lambda result: result.number)

    @property
    def taught(self) -> bool:
        """Whether its student has a teacher, which may have no figures of its own."""
        return TEACHER in self.recipe

    @property
    def between(self) -> list[str]:
        """The links between teachers and student."""
        return [role for role in self.chain if role != "student" and kind_of(role) != TEACHER]

    @property
    def student(self) -> NetworkResult:
        """The student of a job that has finished."""
        return self.networks["student"]

    @property
    def val(self) -> Selection | None:
        """The student's validation figures; None if no image was held back for validation."""
        return self.student.val

    def evaluation(self, role: str) -> Evaluation | None:
        """A network's test figures; None if the job has no such network."""
        return self.networks[role].test if role in self.networks else None

    def test(self, role: str, figure: str = "accuracy") -> float | None:
        """A figure of the test split; None if it is unknown."""
        evaluation = self.evaluation(role)
        return dict(evaluation.numbers()).get(figure) if evaluation else None

    def right(self, role: str) -> "NDArray[Any] | None":
        """For each test image, whether the network is right, bool [N]; None if that is unknown."""
        evaluation = self.evaluation(role)
        packed = evaluation.right if evaluation else None
        return unpack_bits(packed, self.dataset["images"]["test"]) if packed else None

    def resampled(self, role: str, figure: str) -> "NDArray[Any] | None":
        """A figure on resamples of the test images, [B], the same for all networks; None if unknown."""
        evaluation = self.evaluation(role)
        packed = evaluation.resampled.get(figure) if evaluation else None
        return unpack_floats(packed) if packed else None

    def percentages(self, role: str) -> tuple[str, str]:
        """The validation accuracy, empty if there is none, and the test accuracy, as tables show them."""
        val = self.networks[role].val
        return f"{100 * val.accuracy:.2f}" if val else "", f"{100 * (self.test(role) or 0):.2f}"

    def order(self) -> tuple[float, float]:
        """Sorts jobs that finished, best first: by validation accuracy, then by cross-entropy. Jobs without
        validation come last, and keep their order."""
        return (-self.val.accuracy, self.val.cross_entropy) if self.val else (inf, inf)

    @property
    def failed(self) -> bool:
        return self.error not in (None, PRUNED)

    @property
    def name(self) -> str:
        """The swept values for people: T=4 α=0.5 seed=1."""
        return named(self.swept, self.options)

    @property
    def recipe_name(self) -> str:
        """The same without the seed: jobs of one name repeat each other."""
        return named({key: value for key, value in self.swept.items() if key != "seed"}, self.options)
