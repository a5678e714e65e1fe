"""hardware=cpu_parallel: Hydra's joblib launcher, whose sweep survives a worker that dies."""

import sys
from collections.abc import Sequence

from hydra.core.utils import JobReturn
from hydra_plugins.hydra_joblib_launcher import joblib_launcher

from kdsweep.sweeps.hydra_private import came_to, failed
from kdsweep.sweeps.launchers.base import RESUME, Launched, ProcessDied, SweepLauncher
from kdsweep.system.foreign_errors import ends_of_workers


class JoblibLauncher(SweepLauncher, joblib_launcher.JoblibLauncher):
    """A worker that dies breaks joblib's pool, and all its unfinished jobs are lost.

    Each of these runs again alone, from its checkpoint, which shows the job that kills its process: that one
    has failed. Jobs that had not begun run in a new pool.
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
                # retry at least one job, so that a worker that dies at its start cannot loop forever
                begun = max((i for i, job in enumerate(jobs) if job.folder.is_dir()), default=0)
                attempt = [job.returned() or self._alone(job) for job in jobs[: begun + 1]]
            returns += attempt
        return returns

    def launch_once(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Each job's return; if a process died, all jobs are lost, FAILED by ProcessDied."""
        from joblib.externals.loky.process_executor import TerminatedWorkerError

        _dismiss_workers()  # of the caller's own joblib, which know another folder or environment
        try:
            return list(super().launch(job_overrides, initial_job_idx))
        except TerminatedWorkerError as error:
            ends = ", ".join(ends_of_workers(error))
            died = ProcessDied(f"a job's process died{f' by {ends}' if ends else ''}")
            return [failed(overrides, died) for overrides in job_overrides]
        finally:
            _dismiss_workers()

    def _alone(self, job: Launched) -> JobReturn:
        (again,) = self.launch_once([job.overrides], job.number)
        if death := _death([again]):
            reason = f"{death}, even alone; probably out of memory. {RESUME}"
            return job.returned() or job.fail(ProcessDied(reason))
        return again


def _dismiss_workers() -> None:
    """Let idle workers end, without waiting: their exit takes a second."""
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor(reuse=True).shutdown(wait=False)


def _death(returns: Sequence[JobReturn]) -> ProcessDied | None:
    died = (came_to(job) for job in returns)
    return next((error for error in died if isinstance(error, ProcessDied)), None)
