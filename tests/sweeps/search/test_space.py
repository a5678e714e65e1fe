"""What a search is told is checked as a whole before anything runs, and a study takes no other search."""

from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from hydra import initialize_config_module
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf

from kdsweep.config.parse import parse
from kdsweep.errors import ConfigError
from kdsweep.results.result import SweepInfo
from kdsweep.sweeps.compose import compose
from kdsweep.sweeps.overrides import swept_values
from kdsweep.sweeps.search.space import Terms, read_terms
from kdsweep.sweeps.search.study import check
from kdsweep.sweeps.search.trials import open_storage
from kdsweep.sweeps.search.worker import Worker

SEARCH = "search=temperature_alpha"
Composed = Callable[..., DictConfig]


@pytest.fixture
def composed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The config of a sweep by its overrides, in the test's folder."""
    monkeypatch.chdir(tmp_path)
    with initialize_config_module("kdsweep.conf"):

        def master(*overrides: str) -> DictConfig:
            hydra = GlobalHydra.instance().hydra
            assert hydra is not None
            return hydra.compose_config("config", ["hydra.sweep.dir=sweep", *overrides], RunMode.MULTIRUN)

        yield master


def terms(config: DictConfig) -> Terms:
    return read_terms(config, GlobalHydra.instance().config_loader())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ((SEARCH, "temperature=interval(64.0,1.0)"), r"temperature=interval\(64.0,1.0\): .*give choices"),
        ((SEARCH, "alpha=tag(log,interval(0.0,1.0))"), r"alpha=tag\(log,interval\(0.0,1.0\)\): "),
        (("search=optuna", "student=glob(*nothing*)"), r"student=glob\(\*nothing\*\): "),
        (("search=optuna",), "nothing to search"),
        ((SEARCH, "hydra/sweeper/sampler=grid"), "sampler=grid: temperature is an interval"),
        (
            (SEARCH, "+hydra.sweeper.sampler.flavour=1"),
            r"hydra.sweeper.sampler: .* does not take its options",
        ),
        ((SEARCH, "hydra.sweeper.direction=up"), "direction=up: allowed: minimize, maximize"),
        ((SEARCH, "hydra.sweeper.direction=[minimize,minimize]"), "2 given for 1 objectives"),
        ((SEARCH, "search.storage=sqlite://"), "search.storage=sqlite://: cannot be opened .*in memory"),
        ((SEARCH, "search.storage=optuna.db"), "search.storage=optuna.db: cannot be opened .*no URL"),
        ((SEARCH, "search.storage=sqlite:////no/such/x.db"), "cannot be opened .*no such folder: /no/such"),
        (("search=pareto", "search.pruner=median"), "search.pruner=median: must be none, Optuna does not"),
        (
            (SEARCH, "objective=[cost/flops]", "search.pruner=median"),
            "search.pruner=median: must be none, epochs do not report cost/flops",
        ),
        ((SEARCH, "hydra.sweeper.n_jobs=-1"), "hydra.sweeper.n_jobs=-1: must be 0"),
        ((SEARCH, "hydra.sweeper.n_jobs=2"), "hydra.sweeper.n_jobs=2: hardware=auto runs one job at a time"),
        (
            (SEARCH, "hydra.sweeper.custom_search_space=my.space"),
            "custom_search_space=my.space: kdsweep runs no",
        ),
    ],
)
def test_mistakes_are_found_before_anything_runs(composed: Composed, tmp_path: Path, overrides, message):
    with pytest.raises(ConfigError, match=message):
        check(composed(*overrides))
    assert not (tmp_path / "optuna.db").exists()


def test_cmaes_needs_its_package_and_takes_one_objective(composed: Composed, monkeypatch):
    chosen = "hydra/sweeper/sampler=cmaes"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install cmaes"):
        terms(composed(SEARCH, chosen))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    with pytest.raises(ConfigError, match="takes one objective"):
        terms(composed("search=pareto", chosen))


def test_a_glob_is_the_choice_of_what_it_matches(composed: Composed):
    assert terms(composed("search=optuna", "student=glob(*mlp*)")).space["student"].choices == (
        "mlp",
        "small_mlp",
    )


def test_a_grid_has_no_more_trials_than_combinations(composed: Composed):
    grid = ("search=optuna", "hydra/sweeper/sampler=grid", "temperature=1,4,16", "alpha=0.1,0.5")
    assert check(composed(*grid)) == 6
    assert check(composed(*grid, "search.n_trials=4")) == 4


def test_what_epochs_do_not_report_is_not_monitored(composed: Composed):
    assert terms(composed(SEARCH, "objective=[cost/flops]")).monitor is None
    assert terms(composed(SEARCH, "objective=[val/accuracy]")).monitor == "val/accuracy"
    assert terms(composed("search=pareto")).monitor is None


def test_the_name_of_a_study_knows_the_files_that_are_chosen_from(composed: Composed, tmp_path: Path):
    """Config and code of each choice, assistants' too."""
    code = tmp_path / "searched_nets.py"
    code.write_text("class Net: ...\n")
    students = tmp_path / "conf" / "student"
    students.mkdir(parents=True)
    for name in "ab":
        (students / f"{name}.yaml").write_text(
            f"name: {name}\nmodel: {{_target_: kdsweep.networks.zoo.mlp.MLP}}\n"
        )
    assistant = f"{{name: c, model: {{_target_: {code.stem}.Net}}}}"
    (students / "b.yaml").write_text(f"name: b\nmodel: {{_target_: own.B}}\nassistants: [{assistant}]\n")

    def name() -> str:
        files = f"hydra.searchpath=[file://{tmp_path}/conf]"
        return terms(composed(files, "search=optuna", "student=a,b")).search.study

    names = [name(), name()]
    (students / "a.yaml").write_text(
        "name: a\nmodel: {_target_: kdsweep.networks.zoo.mlp.MLP, hidden: [8]}\n"
    )
    names.append(name())
    code.write_text("class Net:\n    wide = True\n")
    names.append(name())
    assert names[0] == names[1]
    assert len(set(names)) == 3


def test_a_password_is_neither_shown_nor_written(composed: Composed, monkeypatch):
    storage = "postgresql://me:se%20cret@host:5432/optuna"
    argument = f"search.storage={storage}"
    config = composed(SEARCH, argument)
    loader = GlobalHydra.instance().config_loader()
    found = terms(config)
    assert found.search.storage == storage
    with pytest.raises(ConfigError) as refused:
        open_storage(storage.replace("postgresql", "no_such_database"))
    assert "cret" not in str(refused.value)

    monkeypatch.setattr("sys.argv", ["kdsweep", "-m", SEARCH, argument])
    told = parse(next(compose(config, [[SEARCH, argument]]))).model_dump()
    assert told["search"]["storage"] == "postgresql://me:***@host:5432/optuna"
    assert "me:***@host" in SweepInfo.begin("", "", [], 1, told).command

    written: list[DictConfig] = []

    def run_job(config: DictConfig, **rest: object) -> JobReturn:
        written.append(config)
        return JobReturn(status=JobStatus.COMPLETED, _return_value=1.0)

    monkeypatch.setattr("kdsweep.sweeps.search.worker.run_job", run_job)
    trial = optuna.create_study().ask(dict(found.space))
    overrides = found.overrides(trial)
    Worker(found, HydraContext(loader, Callbacks()), config, "")._job(trial, overrides)
    assert "cret" not in OmegaConf.to_yaml(written[0])
    values = swept_values(written[0].hydra.overrides.task, ["alpha", "search.storage"])
    assert values == {
        "alpha": trial.params["alpha"],
        "search.storage": "postgresql://me:***@host:5432/optuna",
    }
    assert not any("cret" in str(value) for value in trial.user_attrs.values())


def test_a_study_of_another_search_is_refused_before_a_trial_is_asked_for(composed: Composed):
    def named(*space: str) -> DictConfig:
        return composed("search=optuna", "search.study=mine", *space)

    mine = terms(named("alpha=0.1,0.2", "temperature=interval(1.0,9.0)"))
    study = optuna.create_study(study_name="mine", storage=mine.search.storage, directions=["maximize"])
    study.ask(dict(mine.space))
    assert check(named("alpha=0.1,0.2", "temperature=interval(2.0,5.0)")) == 30
    assert check(named("seed=1,2")) == 30
    with pytest.raises(ConfigError, match=r"alpha from \(0.1, 0.2\), this search from \(0.1, 0.3\)"):
        check(named("alpha=0.1,0.3"))
    with pytest.raises(
        ConfigError, match=r"temperature from 1\.0 to 9\.0, this search from whole numbers 1 to 9"
    ):
        check(named("temperature=int(interval(1,9))"))
    with pytest.raises(ConfigError, match="has other objectives"):
        check(named("alpha=0.1,0.2", "objective=val/cross_entropy"))
    assert len(study.trials) == 1
