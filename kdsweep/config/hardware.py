"""The section `hardware`."""

import os
from typing import Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from kdsweep.config.section import Section

MOST = 10_000  # cores, threads or jobs at a time: beyond it machines give up without an error


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Hardware(Section):
    kind: Literal["here", "gpus", "ray", "slurm"] = "here"
    """where jobs run, as the chosen file declares: on this machine, its GPUs, a Ray cluster, or Slurm"""
    device: str = Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    """auto: the GPU if there is one, otherwise the cores; with gpus_per_job a GPU, unless that is 0"""
    threads: int | None = Field(ge=1, le=MOST)
    """CPU threads per job; null: the cores, divided between the running jobs"""
    minutes: int | None = Field(default=None, ge=3)  # a job needs the last two to save and leave
    """time limit of a Slurm job; a job that reaches it is queued again and resumes from its checkpoint"""
    jobs: int = Field(default=1, le=MOST)
    """most jobs at a time; -1: as many as fit"""
    gpus_per_job: float | None = Field(default=None, ge=0, le=1)
    """share of a GPU per job; with Slurm 0 or 1"""
    cpus_per_job: int | None = Field(default=None, ge=1, le=MOST)
    """cores and threads per job"""
    address: str | None = Field(default=None, pattern=r"^(auto|(ray://)?[\w.-]+:\d+)$")
    """address of a Ray cluster; auto: this machine's"""
    together: int | Literal["auto", "off"] = Field(default="auto")
    """networks of a sweep that differ only in numbers and seeds, in one pass: auto, if faster; off; or N"""
    shared_store: bool = True
    """false: nodes have separate disks and exchange stages through MLflow's artifacts"""
    partition: str | None = None
    """Slurm partition; null: the cluster's default"""
    memory_gb: int | None = Field(default=None, ge=1)
    """memory of a Slurm job in GB; null: the cluster's default"""

    @field_validator("jobs")
    @classmethod
    def _jobs_are_counted(cls, jobs: int, info: ValidationInfo) -> int:
        if jobs < 1 and info.data.get("kind") == "slurm":
            raise PydanticCustomError("jobs", "must be 1 or more with hardware=slurm")
        if jobs < 1 and jobs != -1:
            raise PydanticCustomError("jobs", "must be 1 or more, or -1 for as many as fit")
        return jobs

    @field_validator("together", mode="before")
    @classmethod
    def _together_is_a_number_or_a_word(cls, together: object) -> object:
        wanted = "off" if together is False else together  # as YAML reads the word
        if wanted in ("auto", "off") or (type(wanted) is int and 2 <= wanted <= MOST):
            return wanted
        raise PydanticCustomError("together", "allowed: auto, off, or a number from 2 on")

    @field_validator("gpus_per_job")
    @classmethod
    def _slurm_gives_whole_gpus(cls, gpus: float | None, info: ValidationInfo) -> float | None:
        if info.data.get("kind") == "slurm" and gpus not in (None, 0, 1):
            raise PydanticCustomError("gpus", "must be 0 or 1 with hardware=slurm")
        return gpus

    @model_validator(mode="after")
    def _kinds_are_complete(self) -> Self:
        if self.kind == "ray" and self.address is None:
            raise PydanticCustomError("address", "hardware.address: must be given with hardware=ray")
        if self.gpus_per_job is not None and self.device.startswith("cuda:"):
            raise PydanticCustomError(
                "gpus", f"hardware.device={self.device}: must be cuda, each job is given a GPU of its own"
            )
        return self

    @property
    def elsewhere(self) -> bool:
        """Whether jobs run on other machines, whose devices are not seen here."""
        return self.kind in ("ray", "slurm")

    @property
    def device_type(self) -> Literal["cpu", "cuda"] | None:
        """What jobs compute on, wherever they run; None: what this machine has.

        A job that gets GPUs uses one, and a job that gets none does not look for any. So the machine that
        plans a sweep knows what its nodes will do, although it may have no GPU itself.
        """
        if self.device != "auto":
            return "cpu" if self.device == "cpu" else "cuda"
        if self.gpus_per_job is not None:
            return "cuda" if self.gpus_per_job else "cpu"
        return None

    @property
    def cpu_threads(self) -> int:
        """CPU threads of one job: `threads`, else its cores, else all cores divided by the jobs at a time."""
        jobs = cores() if self.jobs == -1 else self.jobs
        return self.threads or self.cpus_per_job or max(1, cores() // jobs)
