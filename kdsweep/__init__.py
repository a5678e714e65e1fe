"""kdsweep: knowledge-distillation experiments as sweeps.

`kdsweep.run` and `kdsweep.sweep` run what the command line runs. Nothing is imported until they are used.
"""

from importlib.metadata import version
from time import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdsweep.api import Outcome, Report, TrainedNetwork, run, sweep
    from kdsweep.errors import KdsweepError

__version__ = version("kdsweep")
__all__ = ["KdsweepError", "Outcome", "Report", "TrainedNetwork", "run", "sweep"]

BEGAN = time()  # whoever edits a file later may have imported an older text of it


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'kdsweep' has no attribute {name!r}")
    from kdsweep import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
