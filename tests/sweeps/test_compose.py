"""Configs put together from a few compositions are those that Hydra composes one by one."""

import pickle
from collections.abc import Iterator

import pytest
from hydra import initialize_config_module
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf, open_dict

from kdsweep.sweeps.compose import SweepLoader, compose

CHOICES = (
    "student=mlp", "student=resnet", "teacher=vgg", "method=ban", "method=takd", "training=sgd",
    "experiment=mnist_takd", "experiment=cifar10_ban", "hardware=cpu_parallel", "dataset=mnist",
    "+dataset@other=cifar10", "teacher/training=same",
    "training/optimizer=sgd", "training/optimizer@teacher.training.optimizer=sgd",
    "student=no_such_file", "~experiment",
)  # fmt: skip
KEYS = (
    "temperature", "student.name", "student.model", "student.model.hidden", "student.model.hidden.0",
    "training", "training.epochs", "teacher.training.fine_tuning.epochs", "dataset.augment.zoom",
    "student.assistants", "+student.model.bias", "++student.model.bias", "++temperature", "+new",
    "+new.deeper.still", "~student.model", "~temperature", "no.such.key", "student", "chain.ensemble",
)  # fmt: skip
VALUES = (
    "1", "1.0", "1e-3", "null", "true", "''", "text", "'quoted, with=signs'", '"1"', "[1,2]", "[]", "{}",
    "{a:1,b:[x,null]}", "[{conv:32},relu]", "${temperature}", "'${training.epochs}'", "???", "{_target_:a.B}",
    "${no.such}", "with spaces",
)  # fmt: skip
overrides = st.sampled_from(CHOICES) | st.builds(
    "{}={}".format, st.sampled_from(KEYS), st.sampled_from(VALUES)
)


@pytest.fixture(scope="module")
def loader() -> Iterator[ConfigLoader]:
    with initialize_config_module("kdsweep.conf"):
        yield GlobalHydra.instance().config_loader()


def by_hydra(loader: ConfigLoader, master: DictConfig, job: list[str]) -> DictConfig:
    config = loader.load_sweep_config(master, job)
    with open_dict(config):
        del config["hydra"]
    return config


def described(make) -> object:
    """All there is to a config, interpolations as they are written and as they resolve; or its error."""
    try:
        config = make()
    except Exception as error:
        return type(error), str(error)
    try:
        resolved = OmegaConf.to_container(config, resolve=True)
    except Exception as error:
        resolved = type(error), str(error)
    flags = OmegaConf.is_struct(config), OmegaConf.is_readonly(config)
    return OmegaConf.to_container(config, resolve=False), OmegaConf.to_yaml(config), resolved, flags


@pytest.mark.long
@settings(max_examples=20)
@given(st.lists(st.lists(overrides, max_size=4), min_size=1, max_size=3))
def test_a_sweep_is_composed_as_by_hydra(loader, jobs):
    master = loader.load_configuration("config", [], RunMode.MULTIRUN)
    composed = compose(master, jobs)
    for job in jobs:
        theirs = described(lambda job=job: by_hydra(loader, master, job))
        assert described(lambda: next(composed)) == theirs, job
        if isinstance(theirs[0], type):  # it ends there, as the sweep does
            break


@pytest.mark.long
@settings(max_examples=8)
@given(st.lists(st.lists(overrides | st.just("hydra.job.name=other"), max_size=4), min_size=1, max_size=3))
def test_launchers_compose_a_job_as_hydra_does(loader, jobs):
    master = loader.load_configuration("config", [], RunMode.MULTIRUN)
    quick = SweepLoader(loader)
    for job in jobs:
        for _ in range(2):  # from what the first time left, too
            ours = described(lambda job=job: quick.load_sweep_config(master, job))
            assert ours == described(lambda job=job: loader.load_sweep_config(master, job)), job


def test_jobs_that_differ_by_values_are_composed_once(loader, monkeypatch):
    master = loader.load_configuration("config", [], RunMode.MULTIRUN)
    composed = []
    whole = loader.load_sweep_config
    monkeypatch.setattr(loader, "load_sweep_config", lambda *given: composed.append(given) or whole(*given))
    jobs = [["method=ban", f"student={student}", f"alpha={alpha}", "training={epochs:3}", f"+new=[{alpha}]"]
            for student in ("mlp", "vgg") for alpha in (0.1, 0.2, 0.3)]  # fmt: skip
    configs = list(compose(master, jobs))
    assert len(composed) == 2
    assert [(each.student.name[:3], each.alpha, each.new) for each in configs] == [
        (student, alpha, [alpha]) for student in ("mlp", "vgg") for alpha in (0.1, 0.2, 0.3)
    ]
    assert {each.training.epochs for each in configs} == {3}
    configs[0].student.model.hidden = [1]
    assert configs[1].student.model.hidden != [1]  # they share nothing


def test_a_launchers_process_composes_its_jobs_once(loader, monkeypatch):
    of_jobs = ["hydra.sweep.subdir=${hydra.job.num}_${hydra.job.override_dirname}"]  # known job by job
    master = loader.load_configuration("config", of_jobs, RunMode.MULTIRUN)
    composed = []
    whole, kind = type(loader).load_sweep_config, type(loader)
    monkeypatch.setattr(kind, "load_sweep_config", lambda *given: composed.append(given) or whole(*given))
    quick = SweepLoader(loader)
    for alpha in (0.1, 0.2, 0.3):
        task = pickle.dumps(quick)  # as it comes with each job
        config = pickle.loads(task).load_sweep_config(master, ["student=vgg", f"alpha={alpha}"])
        assert (config.alpha, config.student.name) == (alpha, "vgg8")
        assert config.hydra.overrides.task == ["student=vgg", f"alpha={alpha}"]
        assert config.hydra.job.override_dirname == f"alpha={alpha},student=vgg"
    assert len(composed) == 1
