"""Slurm's jobs from the view of their sweep: their states, their results, and how they are cancelled.

This module imports submitit: import it only for jobs of Slurm.
"""

import contextlib
import io
import subprocess
import time
from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn
from submitit.core.core import Job
from submitit.core.utils import DelayedSubmission, UncompletedJobError
from submitit.slurm.slurm import SlurmExecutor, SlurmInfoWatcher, SlurmJob

from kdsweep.sweeps.launchers.base import Launched, ProcessDied
from kdsweep.system.terminal import relative

GONE = "no longer in the queue"  # cancelled before it began, or ended long ago
ENDED = {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY",
         "PREEMPTED", "TIMEOUT", GONE}  # fmt: skip
SECONDS_BETWEEN_LOOKS = 30  # at most: a file shows that a job finished, the queue only that it died
SECONDS_FOR_ITS_FILES = 10.0  # to arrive through a shared file system, or for a job to be queued again
SECONDS_TO_END = 5.0  # for jobs that are interrupted


class Watcher(SlurmInfoWatcher):
    """The states of jobs by squeue, which every Slurm has; submitit uses sacct, which needs accounting.

    A job has ended if it appears so for some seconds; a job in a state unknown to submitit has not.
    """

    def __init__(self) -> None:
        super().__init__(delay_s=SECONDS_BETWEEN_LOOKS)
        self._ended_since: dict[str, float] = {}

    def _make_command(self) -> list[str]:
        return ["squeue", "--me", "--noheader", "--array", "--states=all", "--format=%i|%T"]

    def read_info(self, string: bytes | str) -> dict[str, dict[str, str]]:
        text = string if isinstance(string, str) else string.decode()
        states = dict(line.strip().split("|") for line in text.splitlines())
        for job_id in self._registered:
            if states.get(job_id, GONE) in ENDED:
                self._ended_since.setdefault(job_id, time.monotonic())
            else:
                self._ended_since.pop(job_id, None)
        return {job_id: {"State": states.get(job_id, GONE)} for job_id in self._registered}

    def is_done(self, job_id: str, mode: str = "standard") -> bool:
        self.get_state(job_id, mode)
        since = self._ended_since.get(job_id)
        return since is not None and time.monotonic() - since > SECONDS_FOR_ITS_FILES

    def all_ended(self) -> bool:
        self.update()
        return self._registered <= self._ended_since.keys()


class Queued:
    """A job in the queue; Hydra's launcher calls `results`."""

    def __init__(
        self, job: Job[JobReturn], submission: DelayedSubmission, watcher: Watcher, siblings: "list[Queued]"
    ) -> None:
        self.job, self.watcher, self.siblings = job, watcher, siblings
        launcher: Any = submission.function
        overrides, _, number, *_ = submission.args
        self.launched = Launched(launcher, number, overrides)
        self.returned: JobReturn | None = None
        job._results_timeout_s = 0  # the watcher has waited already

    def results(self) -> list[JobReturn]:
        """The job's return, once all jobs of the array have one."""
        try:
            while any(each.returned is None for each in self.siblings):
                for each in self.siblings:
                    if each.returned is None and each.job.done():
                        each.returned = each._return()
                time.sleep(1)
        except BaseException:  # Ctrl-C too: Slurm would run the jobs; it is raised again
            cancel(sorted({each.job.job_id.partition("_")[0] for each in self.siblings}), self.watcher)
            raise
        assert self.returned is not None
        return [self.returned]

    def _return(self) -> JobReturn:
        try:
            (returned,) = self.job.results()
        except UncompletedJobError:
            left, log = self.launched.returned(), self.job.paths.stderr
            see = f"; see {relative(log)}" if log.exists() else ""
            died = ProcessDied(f"its Slurm job {self.job.job_id} has ended, {self.job.state}{see}")
            return left or self.launched.fail(died)
        self.launched.show()
        return returned


class KdsweepExecutor(SlurmExecutor):
    """submitit's executor, for jobs of a sweep."""

    def _internal_process_submissions(self, delayed_submissions: list[DelayedSubmission]) -> list[Any]:
        SlurmJob.watcher = watcher = Watcher()
        with contextlib.redirect_stderr(io.StringIO()):  # the error repeats what sbatch prints
            jobs = super()._internal_process_submissions(delayed_submissions)
        queued: list[Queued] = []
        for job, submission in zip(jobs, delayed_submissions, strict=True):
            queued.append(Queued(job, submission, watcher, queued))
        array = jobs[0].job_id.partition("_")[0]
        print(f"Slurm's job {array}: squeue --job {array} shows its state", flush=True)
        return queued


def cancel(arrays: Sequence[str], watcher: Watcher) -> None:
    """End the jobs: send Ctrl-C to running ones, so that they report to MLflow; then kill the rest."""
    try:
        _scancel("--state=PENDING", *arrays)
        _scancel("--signal=INT", *arrays)
        deadline = time.monotonic() + SECONDS_TO_END
        while not watcher.all_ended() and time.monotonic() < deadline:
            time.sleep(0.5)
    finally:
        _scancel(*arrays)


def _scancel(*arguments: str) -> None:
    subprocess.run(["scancel", *arguments], capture_output=True, check=False)
