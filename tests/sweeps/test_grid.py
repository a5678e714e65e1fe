"""The sweep of every combination runs the jobs that it has planned."""

import pytest
from helpers import TINY, Command
from omegaconf import OmegaConf

from kdsweep.results.result import JobResult, SweepInfo


@pytest.mark.long
def test_jobs_are_those_that_sweep_json_plans(kdsweep: Command, tmp_path):
    sweeper = ("++hydra.sweeper.params={alpha: '0.5,0'}", "hydra.sweeper.max_batch_size=3")
    where = "tracking.experiment=${oc.env:EXPERIMENT}"  # each job's own machine says
    kdsweep("-m", "temperature=1,4", where, *sweeper, *TINY, EXPERIMENT="grid")
    (folder,) = tmp_path.glob("multirun/*/*")
    planned, results = SweepInfo.load(folder).planned, JobResult.load_all(folder)
    assert [(job.swept["alpha"], job.swept["temperature"]) for job in results] == [
        (0.5, 1), (0.5, 4), (0, 1), (0, 4)
    ]  # fmt: skip
    for job, result in zip(planned, results, strict=True):
        task = OmegaConf.load(folder / str(result.number) / ".hydra" / "overrides.yaml")
        assert OmegaConf.to_container(task, resolve=False) == job.overrides
        assert where in job.overrides
        assert {network.key for network in result.networks.values()} == set(job.stages)
    assert (folder / "multirun.yaml").is_file()
