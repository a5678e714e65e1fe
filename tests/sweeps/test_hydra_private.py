"""What kdsweep takes of Hydra that Hydra does not promise is as it was."""

import pytest
from hydra import compose, initialize_config_module
from hydra.core.plugins import Plugins

from kdsweep.sweeps.hydra_private import BASIC_LAUNCHER, came_to, completed, failed


def test_a_return_is_what_a_job_came_to():
    assert came_to(completed(["a=1"], 0.5)) == completed(["a=1"], 0.5).return_value == 0.5
    error = ValueError("no")
    assert came_to(failed(["a=1"], error)) is error
    with pytest.raises(ValueError, match="no"):
        _ = failed(["a=1"], error).return_value


def test_the_launcher_of_a_config_that_names_none():
    with initialize_config_module("kdsweep.conf"):
        config = compose("config", return_hydra_config=True)
    assert config.hydra.launcher._target_ == BASIC_LAUNCHER
    assert BASIC_LAUNCHER in Plugins.instance().class_name_to_class
