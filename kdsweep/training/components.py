"""Call the optimizer and the schedule of a recipe; every mistake in them is a ConfigError."""

from collections.abc import Callable, Mapping
from typing import Any

from hydra.utils import UNSAFE_DISABLE_EXECUTION_CHECKS, instantiate

from kdsweep.config.code import SOURCE, import_from_here
from kdsweep.errors import ConfigError
from kdsweep.system.foreign_errors import one_line

Component = Mapping[str, Any]

HYDRAS = ("_target_", "_convert_", "_recursive_", "_partial_", "_args_")  # keys of Hydra's, not options


def located(section: str, component: Component) -> Callable[..., Any]:
    """The callable of a component. Raises ConfigError if it cannot be found."""
    function: Callable[..., Any] = _partial(section, {"_target_": component["_target_"]}).func
    return function


def called(section: str, component: Component, *given: Any, **more: Any) -> Any:
    """Call a component. Raises ConfigError if it cannot be found or refuses its arguments."""
    make = _partial(section, {key: value for key, value in component.items() if key != SOURCE})
    try:
        return make(*given, **more)
    except Exception as error:  # components run any code, the user's too
        raise wrong(section, component, one_line(error)) from error


def options_of(component: Component) -> dict[str, Any]:
    return {key: value for key, value in component.items() if key not in (*HYDRAS, SOURCE)}


def wrong(section: str, component: Component, what: str) -> ConfigError:
    return ConfigError(f"{section}._target_={component['_target_']}: {what}")


def _partial(section: str, component: Component) -> Any:
    import_from_here()
    try:
        return instantiate(
            {**component, "_partial_": True},
            _convert_="all",
            # a config may name any code of the user's, and is trusted as that code is
            _execution_whitelist_=UNSAFE_DISABLE_EXECUTION_CHECKS,
        )
    except Exception as error:  # importing runs any code, the user's too
        raise wrong(section, component, one_line(error.__cause__ or error)) from error
