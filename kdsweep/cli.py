"""The console script: Hydra composes a config, the job of that config runs.

Heavy imports wait until a job runs, so that --help, --cfg and shell completion answer at once.
"""

import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError

from kdsweep.errors import KdsweepError

FAILED, INTERRUPTED = 1, 2


def main() -> None:
    """The `kdsweep` command. Exit status 0: done, 1: a mistake or a failed job, 2: interrupted."""
    debug = os.environ.get("HYDRA_FULL_ERROR") == "1" or "debug=true" in map(str.lower, sys.argv)
    # Hydra would print tracebacks of its own; so it raises, and the mistake is told in a line or two
    os.environ["HYDRA_FULL_ERROR"] = "1"
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run()
    except KeyboardInterrupt:
        print("kdsweep: interrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except Exception as error:
        if debug:
            raise
        fail(error)


@hydra.main(config_path="pkg://kdsweep.conf", config_name="config", execution_whitelist="kdsweep.*")
def run(composed: DictConfig) -> float | None:
    """Run the job of a composed config; its objective's number is for the sweeper."""
    from kdsweep.job import run_job
    from kdsweep.result import Result
    from kdsweep.sweep import Sweep, swept_values

    context = HydraConfig.get()
    folder = Path(context.runtime.output_dir)
    if context.mode == RunMode.MULTIRUN:
        sweep = Sweep.load(Path(context.sweep.dir))
        result = Result(context.job.num, swept_values(context.overrides.task, sweep.keys))
    else:
        sweep, result = None, Result(0, {})
    try:
        run_job(composed, folder, result, sweep)
    except Exception as error:
        if sweep or composed.get("debug"):
            raise  # to the sweeper, which goes on with the next job
        fail(error)
    return result.objective


def fail(error: Exception) -> NoReturn:
    print(f"kdsweep: {explain(error)}", file=sys.stderr)
    sys.exit(FAILED)


def explain(error: Exception) -> str:
    """What a person needs to know of an error: a line or two, no traceback."""
    cause = error.__cause__
    if isinstance(cause, ConfigKeyError | ConfigAttributeError) and cause.parent_node is not None:
        from kdsweep.config import unknown_key

        return unknown_key(str(cause.full_key), [str(key) for key in cause.parent_node])
    if isinstance(error, MissingConfigException) and error.options:
        return f"{error.missing_cfg_file}: no such option; allowed: {', '.join(error.options)}"
    if isinstance(error, KdsweepError | HydraException):
        return str(error)
    return f"{type(error).__name__}: {error}\n(unexpected; debug=true shows where)"
