"""hardware=cpu_parallel: Hydra's joblib launcher; a worker that dies is not the end of the sweep."""

import sys
from collections.abc import Sequence

from hydra.core.utils import JobReturn
from hydra_plugins.hydra_joblib_launcher import joblib_launcher

from kdsweep.sweeps.hydra_private import came_to, failed
from kdsweep.sweeps.launchers.base import Launched, ProcessDied, SweepLauncher
from kdsweep.system.foreign_errors import ends_of_workers


class JoblibLauncher(SweepLauncher, joblib_launcher.JoblibLauncher):
    """A worker that dies breaks joblib's pool, and whatever was under way in it is lost.

    Of that, each job runs again alone, from its checkpoint, which tells the one that kills its process: that
    has failed. What had not begun goes on in a new pool.
    """

    takes_away = False

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        returns: list[JobReturn] = []
        while rest := job_overrides[len(returns) :]:
            first = initial_job_idx + len(returns)
            attempt = self.launch_once(rest, first)
            if death := _death(attempt):
                print(f"kdsweep: {death}; unfinished jobs run again, one at a time", file=sys.stderr)
                jobs = [Launched(self, first + i, overrides) for i, overrides in enumerate(rest)]
                # at least one, lest processes that die when they start are started forever
                begun = max((i for i, job in enumerate(jobs) if job.begun()), default=0)
                attempt = [job.returned() or self._alone(job) for job in jobs[: begun + 1]]
            returns += attempt
        return returns

    def launch_once(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Each job's return; if a process died, all of them are lost, FAILED by ProcessDied."""
        from joblib.externals.loky import get_reusable_executor
        from joblib.externals.loky.process_executor import TerminatedWorkerError

        try:
            returns = list(super().launch(job_overrides, initial_job_idx))
        except TerminatedWorkerError as error:
            ends = ", ".join(ends_of_workers(error))
            died = ProcessDied(f"a job's process died{f' by {ends}' if ends else ''}")
            return [failed(overrides, died) for overrides in job_overrides]
        # the workers end while the report is made; their imports take a second to be undone
        get_reusable_executor(reuse=True).shutdown(wait=False)
        return returns

    def _alone(self, job: Launched) -> JobReturn:
        (again,) = self.launch_once([job.overrides], job.number)
        if death := _death([again]):
            reason = f"{death}, even alone; probably out of memory. Run the same command to resume from its checkpoint"
            return job.returned() or job.fail(ProcessDied(reason))
        return again


def _death(returns: Sequence[JobReturn]) -> ProcessDied | None:
    died = (came_to(job) for job in returns)
    return next((error for error in died if isinstance(error, ProcessDied)), None)
