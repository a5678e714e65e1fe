"""A swept override is searched as Hydra's own plugin for Optuna would."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra_plugins.hydra_optuna_sweeper import _impl as plugin

from kdsweep.sweeps.search.distributions import choices, distribution
from kdsweep.sweeps.search.space import WorkersGrid

GRID = ["x=1,2,4", "x=1,2.5", "x=a,b", "x=true,null", "x=[1,2],[3]", "x=range(1,9,3)", "x=range(9,1,-3)",
        "x=range(0.1,0.6,0.1)", "x=range(1,0,-0.3)", "x=range(5)", "x=shuffle(range(1,4))",
        "x=sort(range(4),reverse=true)", "x='a b','c=d'"]  # fmt: skip
INTERVALS = [
    "x=interval(1,64)",
    "x=interval(0.5,64)",
    "x=tag(log,interval(1,64))",
    "x=tag(log,interval(1.,9))",
]


def read(text: str):
    (override,) = OverridesParser.create().parse_overrides([text])
    return override


@pytest.mark.parametrize("text", [text for text in GRID if "shuffle" not in text] + INTERVALS)
def test_a_distribution_is_the_plugins(text):
    assert distribution(read(text)) == plugin.create_optuna_distribution_from_override(read(text))


@pytest.mark.parametrize("text", GRID)
def test_a_grid_has_all_values(text):
    made = distribution(read(text))
    assert list(choices(made)) == list(plugin.OptunaSweeperImpl._to_grid_sampler_choices(made))


@pytest.mark.parametrize("text", INTERVALS[1:2] + INTERVALS[3:])
def test_an_interval_of_real_numbers_is_no_grid(text):
    with pytest.raises(ValueError):
        choices(distribution(read(text)))


@pytest.mark.parametrize("text", ["x=interval(2,1)", "x=tag(log,interval(0.,1))"])
def test_what_optuna_does_not_take_is_a_value_error(text):
    with pytest.raises(ValueError):
        distribution(read(text))


def test_a_grid_that_is_through_stops_nothing():
    import optuna

    study = optuna.create_study(sampler=WorkersGrid({"x": [1, 2]}, seed=0))
    for _ in range(2):
        trial = study.ask()
        study.tell(trial, trial.suggest_categorical("x", [1, 2]))
    assert sorted(trial.params["x"] for trial in study.trials) == [1, 2]
