"""What Hydra's launchers lack: a job whose process dies has failed, and its sweep continues."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf, open_dict

from kdsweep.errors import ConfigError, KdsweepError, explain
from kdsweep.results.result import INTERRUPTED, RESULT, JobResult, SweepInfo
from kdsweep.sweeps.compose import SweepLoader
from kdsweep.sweeps.hydra_private import completed, failed

RESUME = "Run the same command to resume from its checkpoint"


class ProcessDied(KdsweepError):
    """A job's process was killed, such as for lack of memory."""


class SweepLauncher(Launcher):
    """The interface of kdsweep's launchers; any other one is taken to run `hardware.jobs` at a time."""

    takes_away = True  # it needs -m: a job alone stays in the command's process
    prints_here = True  # the command's screen shows what jobs print
    config: Any  # a DictConfig, once it is set up

    @staticmethod
    def check(config: DictConfig) -> None:
        """Raise ConfigError if it cannot work here. Nothing is started."""

    @staticmethod
    def room(config: DictConfig) -> int | None:
        """How many jobs run at a time; None if that shows only when they run."""
        return jobs_wanted(config)

    def slots(self) -> int:
        """The same, when the launcher may start something to find out."""
        return jobs_wanted(self.config)

    def launch_once(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """As `launch`, but a job whose process dies is not retried: it is FAILED by ProcessDied."""
        return self.launch(job_overrides, initial_job_idx)


class Launched:
    """A job as its launcher sees it, which outlives the job's process."""

    def __init__(self, launcher: Launcher, number: int, overrides: Sequence[str]) -> None:
        self.number, self.overrides = number, list(overrides)
        loader = launcher.hydra_context.config_loader  # type: ignore[attr-defined]
        self.config = numbered(loader, launcher.config, number, self.overrides)  # type: ignore[attr-defined]
        self.folder = job_folder(self.config)

    def returned(self) -> JobReturn | None:
        """Its return, from its result file; None if it has none, or was interrupted."""
        result = JobResult.load(self.folder) if (self.folder / RESULT).exists() else None
        if result is None or result.error == INTERRUPTED:
            return None
        if result.error:
            return failed(self.overrides, KdsweepError(result.error))
        return completed(self.overrides, result.objective)

    def fail(self, error: KdsweepError) -> JobReturn:
        """Write the result that its process could not write, and print its line."""
        from kdsweep.sweeps.overrides import swept_values

        sweep = self._sweep()
        result = sweep.result(self.number, swept_values(self.overrides, sweep.keys))
        result.seed, result.error = self.config.seed, explain(error)
        self.folder.mkdir(parents=True, exist_ok=True)
        result.save(self.folder)
        self.show()
        return failed(self.overrides, error)

    def show(self) -> None:
        """Print its line; a process on another machine cannot print here."""
        from kdsweep.results.line import sweep_line
        from kdsweep.system.terminal import console

        if (self.folder / RESULT).exists():
            console().print(sweep_line(JobResult.load(self.folder), self._sweep().jobs), markup=False)

    def _sweep(self) -> SweepInfo:
        return SweepInfo.load(Path(self.config.hydra.sweep.dir))


def numbered(loader: SweepLoader, sweep: DictConfig, number: int, overrides: Sequence[str]) -> DictConfig:
    """The config of a sweep's job, as the job's process composes it."""
    config: DictConfig = loader.load_sweep_config(sweep, list(overrides))
    with open_dict(config):
        config.hydra.job.num = number
        config.hydra.job.id = f"{config.hydra.job.name}_{number}"
    return config


def job_folder(config: DictConfig) -> Path:
    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(config)  # the folder's name may refer to the job
    try:
        sweep, job = (OmegaConf.select(config, f"hydra.sweep.{part}") for part in ("dir", "subdir"))
        return Path(str(sweep)) / str(job)
    finally:
        HydraConfig.instance().cfg = before


def check_launcher(config: DictConfig) -> None:
    """Raise ConfigError if a launcher of kdsweep's cannot work here."""
    if launcher := _launcher(config.hydra):
        launcher.check(config)


def jobs_at_once(config: DictConfig) -> int | None:
    """How many jobs of a sweep run at a time; None if that shows only when they run."""
    launcher = _launcher(config.hydra)
    return launcher.room(config) if launcher else jobs_wanted(config)


def jobs_wanted(config: DictConfig) -> int:
    """hardware.jobs; -1 stands for the number of cores."""
    from kdsweep.config import cores

    jobs = int(OmegaConf.select(config, "hardware.jobs", default=1))
    return cores() if jobs == -1 else jobs


def shares_store(config: DictConfig) -> bool:
    """Whether all jobs share one store; else they exchange stages through MLflow."""
    return bool(OmegaConf.select(config, "hardware.shared_store", default=True))


def refuse_launcher(hydra: Any) -> None:
    """Raise ConfigError if a job alone names a launcher that needs -m."""
    launcher = _launcher(hydra)
    if launcher and launcher.takes_away:
        chosen = f"hardware={hydra.runtime.choices.get('hardware')}"
        raise ConfigError(f"{chosen}: needs -m, as in kdsweep -m {chosen}; hardware=auto runs one job here")


def _launcher(hydra: Any) -> type[SweepLauncher] | None:
    plugin = Plugins.instance().class_name_to_class.get(hydra.launcher._target_)
    return plugin if plugin and issubclass(plugin, SweepLauncher) else None
