"""The folder of a sweep or a job: writable, used by no other command, with a folder for each job."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from kdsweep.errors import ConfigError, explain
from kdsweep.results.result import RESULT, SWEEP, SweepInfo
from kdsweep.sweeps.compose import SweepLoader
from kdsweep.sweeps.confirm import without_seed
from kdsweep.sweeps.launchers.base import job_folder, numbered

LOCK = ".kdsweep.lock"  # in the folder of a sweep or of a job alone, held while it runs
BY_NUMBER = "${hydra.job.num}"
LAST_SEED = 2**32 - 1

taken: list[Path] = []  # the folders of the sweeps and jobs that this process began, in their order


def take_folder(config: DictConfig, key: str) -> FileLock:
    """Make the folder that `key` names and keep other commands out of it until the lock is released.

    Raises ConfigError if it cannot be written, another command uses it, or it lies in the folder of another
    sweep or job, which would count these results as its own.
    """
    folder = Path(OmegaConf.select(config, key))
    if not OmegaConf.select(config, key).strip():
        raise ConfigError(f"{key}=: must name a folder")
    for above in folder.absolute().parents:
        if _is_a_sweeps(above) or _is_taken(above):
            raise ConfigError(
                f"{key}={folder}: is in {above}, the folder of another sweep or job; give one outside"
            )
    lock = FileLock(folder / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise ConfigError(
            f"{key}={folder}: another sweep or job is at work in it; give another folder, or wait"
        ) from None
    except OSError as error:
        raise ConfigError(
            f"{key}={folder}: cannot be written ({explain(error)}); give another folder"
        ) from error
    taken.append(folder.absolute())
    return lock


def _is_a_sweeps(folder: Path) -> bool:
    """Whether it has the record of a sweep or a job alone; other programs may have such a file too."""
    with suppress(OSError, ValueError):
        return (folder / SWEEP).exists() and bool(SweepInfo.load(folder))
    return False


def _is_taken(folder: Path) -> bool:
    """Whether a command is using it."""
    if not (folder / LOCK).exists():
        return False
    try:
        with FileLock(folder / LOCK, timeout=0):
            return False
    except (Timeout, OSError):
        return True


def refuse_results_below(folder: Path) -> None:
    """Raise ConfigError if a job alone would write above the results of a sweep or of other jobs."""
    if other := next((file for file in folder.rglob(RESULT) if file.parent != folder), None):
        raise ConfigError(
            f"hydra.run.dir={folder}: contains {other} of another sweep or job; give a new folder"
        )


def refuse_shared_folders(config: DictConfig, jobs: Sequence[Sequence[str]], trials: int | None) -> None:
    """Raise ConfigError if `hydra.sweep.subdir` gives two jobs one folder, or one outside of the sweep's.

    The `trials` of a search, and jobs that confirm, are known to differ only by number and seed.
    """
    raw: Any = OmegaConf.to_container(config.hydra.sweep, resolve=False)
    if raw["subdir"] == BY_NUMBER:
        return
    every = list(jobs if trials is None else [jobs[0]] * min(trials, 2))
    for number in range(config.get("confirm") or 0):
        every.append([*without_seed(jobs[0]), f"seed={LAST_SEED - number}", "baseline=true"])
    loader = SweepLoader(GlobalHydra.instance().config_loader())
    sweep, seen = Path(str(config.hydra.sweep.dir)).absolute(), set[Path]()
    for number, job in enumerate(every):
        folder = job_folder(numbered(loader, config, number, job)).resolve()
        if folder in seen:
            raise ConfigError(
                f"hydra.sweep.subdir={raw['subdir']}: several jobs have the folder {folder.name}, and would "
                f"overwrite each other's results; give each its own, such as '{BY_NUMBER}'"
            )
        if not folder.is_relative_to(sweep.resolve()):
            raise ConfigError(
                f"hydra.sweep.subdir={raw['subdir']}: {folder} is outside of the sweep's folder, "
                "where nobody looks for results; give one below it"
            )
        seen.add(folder)
