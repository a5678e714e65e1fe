"""Hydra's launchers and what they lack: a job whose process dies has failed, and its sweep goes on.

Hydra imports these modules at every start: keep them light.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf, open_dict

from kdsweep.errors import ConfigError, KdsweepError, explain
from kdsweep.results.result import INTERRUPTED, RESULT, Result, Sweep
from kdsweep.sweeps.hydra_private import completed, failed


class ProcessDied(KdsweepError):
    """A job's process was killed, such as for want of memory."""


class Launched:
    """A job as its launcher knows it, which outlives the job's process."""

    def __init__(self, launcher: Launcher, number: int, overrides: Sequence[str]) -> None:
        self.number, self.overrides = number, list(overrides)
        loader = launcher.hydra_context.config_loader  # type: ignore[attr-defined]
        self.config = numbered(loader, launcher.config, number, self.overrides)  # type: ignore[attr-defined]
        self.folder = job_folder(self.config)

    def begun(self) -> bool:
        """Whether its process had come to it: Hydra makes the folder first."""
        return self.folder.is_dir()

    def returned(self) -> JobReturn | None:
        """What it returned, by the result that it left; None if it left none, or was interrupted."""
        result = Result.load(self.folder) if (self.folder / RESULT).exists() else None
        if result is None or result.error == INTERRUPTED:
            return None
        if result.error:
            return failed(self.overrides, KdsweepError(result.error))
        return completed(self.overrides, result.objective)

    def fail(self, error: KdsweepError) -> JobReturn:
        """Leave the result that its process could not, and show it."""
        from kdsweep.sweeps.overrides import swept_values

        sweep = self._sweep()
        result = sweep.result(self.number, swept_values(self.overrides, sweep.keys))
        result.seed, result.error = self.config.seed, explain(error)
        self.folder.mkdir(parents=True, exist_ok=True)
        result.save(self.folder)
        self.show()
        return failed(self.overrides, error)

    def show(self) -> None:
        """Its line, which a process on another machine could not print here."""
        from kdsweep.report.tables import sweep_line
        from kdsweep.system.terminal import console

        if (self.folder / RESULT).exists():
            console().print(sweep_line(Result.load(self.folder), self._sweep().jobs), markup=False)

    def _sweep(self) -> Sweep:
        return Sweep.load(Path(self.config.hydra.sweep.dir))


def numbered(loader: ConfigLoader, sweep: DictConfig, number: int, overrides: Sequence[str]) -> DictConfig:
    """The config of a sweep's job as its process composes it."""
    config: DictConfig = loader.load_sweep_config(sweep, list(overrides))
    with open_dict(config):
        config.hydra.job.num = number
        config.hydra.job.id = f"{config.hydra.job.name}_{number}"
    return config


def job_folder(config: DictConfig) -> Path:
    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(config)  # the folder's name may speak of the job
    try:
        sweep, job = (OmegaConf.select(config, f"hydra.sweep.{part}") for part in ("dir", "subdir"))
        return Path(str(sweep)) / str(job)
    finally:
        HydraConfig.instance().cfg = before


def check_launcher(config: DictConfig) -> None:
    """Ask the launcher, if it is one that can tell, whether it can work here: ConfigError if not."""
    check = getattr(_plugin(config.hydra), "check", None)
    if check is not None:
        check(config)


def jobs_at_once(config: DictConfig) -> int | None:
    """How many jobs of a sweep run at a time; None where that shows only when they run."""
    from kdsweep.config import cores

    room = getattr(_plugin(config.hydra), "room", None)
    if room is not None:
        known: int | None = room(config)
        return known
    jobs: int = OmegaConf.select(config, "hardware.jobs", default=1)
    return cores() if jobs == -1 else jobs


def shares_store(config: DictConfig) -> bool:
    """Whether all jobs see one store; else they exchange stages through MLflow."""
    return bool(OmegaConf.select(config, "hardware.shared_store", default=True))


def refuse_launcher(hydra: Any) -> None:
    """Raise ConfigError if a job alone names a launcher that would take it elsewhere: only -m launches."""
    if hasattr(_plugin(hydra), "check"):
        chosen = f"hardware={hydra.runtime.choices.get('hardware')}"
        raise ConfigError(f"{chosen}: needs -m, as in kdsweep -m {chosen}; hardware=auto runs one job here")


def _plugin(hydra: Any) -> type | None:
    return Plugins.instance().class_name_to_class.get(hydra.launcher._target_)
