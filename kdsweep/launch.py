"""A run of kdsweep in this process: Hydra composes a config, the job or the sweep of that config runs.

Heavy imports wait until a job runs, so that --help, --cfg and shell completion answer at once.
"""

import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from kdsweep.errors import TRACEBACKS, Stopped, wants_traceback
from kdsweep.system.exits import DONE, FAILED


@dataclass(frozen=True)
class Ended:
    """How a run ended: the exit status of the command, and the folder that the job or the sweep left.

    With FAILED every reason has been printed. There is no folder if the run only showed something.
    """

    status: int
    folder: Path | None


def launch(arguments: Sequence[str]) -> Ended:
    """Run the command line `kdsweep ARGUMENTS`. Raises what is wrong with it, or what its one job raised.

    The process has its arguments, environment and log afterwards.
    """
    from kdsweep.sweeps.folders import taken

    sys.argv = ["kdsweep", *map(_as_meant, arguments)]  # where Hydra reads them, and the record of a sweep
    wanted = os.environ.get("HYDRA_FULL_ERROR") == "1" or "debug=true" in map(str.lower, sys.argv)
    os.environ.setdefault(TRACEBACKS, str(int(wanted)))
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises then, and prints no tracebacks of its own
    before, status = len(taken), DONE
    try:
        run()
    except Stopped as stopped:
        if stopped.traceback:
            os.environ[TRACEBACKS] = "1"
        raise stopped.error from stopped.error.__cause__
    except SystemExit as stop:  # argparse exits with 2, which means interrupted here
        status = FAILED if stop.code == 2 else int(stop.code or DONE)
    return Ended(status, taken[-1] if len(taken) > before else None)


def _as_meant(argument: str) -> str:
    """An override with its ~ replaced by the home directory, which shells do only after keys without dots.

    A further teacher may be given keys that its file does not mention.
    """
    argument = re.sub(r"^teachers\.(?=\w+\.)", "++teachers.", argument)
    found = re.fullmatch(r"""([^='"]+=)(["']?)(sqlite:///)?(~[^'"]*)\2""", argument)
    if not found:
        return argument
    with suppress(RuntimeError):  # no such user: Hydra or the schema refuses the path
        return f"{found[1]}{found[2]}{found[3] or ''}{Path(found[4]).expanduser()}{found[2]}"
    return argument


@hydra.main(config_path="pkg://kdsweep.conf", config_name="config", execution_whitelist="kdsweep.*")
def run(composed: DictConfig) -> float | list[float] | None:
    """Run the job of a composed config and return the objective to the sweeper."""
    from kdsweep.job import run_job
    from kdsweep.results.result import JobResult
    from kdsweep.sweeps.job import run_job_of_sweep

    context = HydraConfig.get()
    if context.mode == RunMode.MULTIRUN:
        return run_job_of_sweep(composed)
    result = JobResult(0, {})
    try:
        run_job(composed, Path(context.runtime.output_dir), result, None)
    except Exception as error:  # Hydra would print the overrides first
        raise Stopped(error, wants_traceback(composed)) from None
    return result.objective
