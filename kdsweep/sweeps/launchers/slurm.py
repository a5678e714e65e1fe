"""hardware=slurm: Hydra's submitit launcher, whose sweep survives jobs that die, time out or are cancelled,
and whose jobs end with Ctrl-C.

Hydra imports this module at every start, with or without submitit: keep it light.
"""

import logging
import shutil
import signal
import sys
from collections.abc import Sequence
from subprocess import CalledProcessError
from types import FrameType
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig

from kdsweep.errors import AskedToLeave, ConfigError
from kdsweep.sweeps.launchers.base import SweepLauncher

NODE: Any
try:
    from hydra_plugins.hydra_submitit_launcher.config import SlurmQueueConf as NODE
    from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher as HydraSlurmLauncher

    INSTALLED = True
except ImportError:  # hardware=slurm still composes, and `check` reports what it needs
    INSTALLED, NODE = False, {}

    class HydraSlurmLauncher(Launcher):  # type: ignore[no-redef]
        def setup(self, **context: Any) -> None: ...


ConfigStore.instance().store("kdsweep_slurm", NODE, group="hydra/launcher", provider="kdsweep", replace=True)


class SlurmLauncher(SweepLauncher, HydraSlurmLauncher):
    """slurm_queue.py follows the jobs in the queue; submitit knows its executor as "kdsweep". On a node,
    preemption and the time limit put a job back into the queue.
    """

    _EXECUTOR = "kdsweep"
    prints_here = False  # each job prints into a file

    @staticmethod
    def check(config: DictConfig) -> None:
        """Raise ConfigError if submitit or Slurm is missing."""
        if not INSTALLED:
            raise ConfigError("hardware=slurm needs submitit: pip install 'kdsweep[slurm]'")
        if shutil.which("sbatch") is None:
            raise ConfigError("hardware=slurm: no sbatch here; start the sweep where you submit Slurm's jobs")

    @staticmethod
    def room(config: DictConfig) -> None:
        """Only the cluster knows how many jobs run at a time."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        logging.getLogger("submitit").setLevel(logging.ERROR)  # it would warn of each failed look
        try:
            returns: Sequence[JobReturn] = super().launch(job_overrides, initial_job_idx)
        except (FailedJobError, FailedSubmissionError) as error:  # sbatch's
            raise ConfigError(f"hardware=slurm: {str(error).strip().splitlines()[-1]}") from error
        return returns

    def __call__(self, *job: Any) -> JobReturn:
        """Run a job on a node. Asked to leave, it returns to the queue, to resume from its checkpoint."""
        import submitit

        asked = submitit.JobEnvironment()._usr_sig()
        queue_again: Any = signal.getsignal(asked)

        def leave(number: int, frame: FrameType | None) -> None:
            try:
                queue_again(number, frame)
            except submitit.core.utils.UncompletedJobError:
                raise AskedToLeave(
                    "it hit its time limit too often (hardware.minutes, hydra.launcher.max_num_timeout); "
                    "run the same command to resume from its checkpoint"
                ) from None
            except CalledProcessError as error:
                if error.returncode < 0:  # Slurm kills a requeued job, and its scontrol
                    sys.exit(error.returncode)
                raise AskedToLeave(
                    "Slurm refused to queue it again; run the same command to resume from its checkpoint"
                ) from None

        signal.signal(asked, leave)
        returned: JobReturn = super().__call__(*job)
        return returned
