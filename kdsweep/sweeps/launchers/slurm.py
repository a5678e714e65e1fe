"""hardware=slurm: Hydra's launcher by submitit, for which a job that dies, times out or is cancelled is not
the end of the sweep, and Ctrl-C is the end of its jobs.

Hydra imports this at every start, whether submitit is there or not: keep it light.
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
except ImportError:  # then hardware=slurm composes all the same, and `check` says what it needs
    INSTALLED, NODE = False, {}

    class HydraSlurmLauncher(Launcher):  # type: ignore[no-redef]
        def setup(self, **context: Any) -> None: ...


ConfigStore.instance().store("kdsweep_slurm", NODE, group="hydra/launcher", provider="kdsweep", replace=True)


class SlurmLauncher(SweepLauncher, HydraSlurmLauncher):
    """What becomes of the jobs is told by the queue, see slurm_queue.py, whose executor submitit knows as
    "kdsweep". On a node, preemption and the end of its time put the job back into the queue.
    """

    _EXECUTOR = "kdsweep"
    prints_here = False  # but into a file for each job

    @staticmethod
    def check(config: DictConfig) -> None:
        """Raise ConfigError if submitit or Slurm is not there."""
        if not INSTALLED:
            raise ConfigError("hardware=slurm needs submitit: pip install 'kdsweep[slurm]'")
        if shutil.which("sbatch") is None:
            raise ConfigError("hardware=slurm: no sbatch here; start the sweep where you submit Slurm's jobs")

    @staticmethod
    def room(config: DictConfig) -> None:
        """How many jobs run at a time is for the cluster to say."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        logging.getLogger("submitit").setLevel(logging.ERROR)  # no word of each look that fails
        try:
            returns: Sequence[JobReturn] = super().launch(job_overrides, initial_job_idx)
        except (FailedJobError, FailedSubmissionError) as error:  # sbatch's
            raise ConfigError(f"hardware=slurm: {str(error).strip().splitlines()[-1]}") from error
        return returns

    def __call__(self, *job: Any) -> JobReturn:
        """Run a job on a node. Asked to leave, it goes back into the queue, and on from its checkpoint."""
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
                if error.returncode < 0:  # Slurm ends what it queues again, submitit's scontrol too
                    sys.exit(error.returncode)
                raise AskedToLeave(
                    "Slurm refused to queue it again; run the same command to resume from its checkpoint"
                ) from None

        signal.signal(asked, leave)
        returned: JobReturn = super().__call__(*job)
        return returned
