"""The console script: Hydra composes a config, the job of that config runs.

Heavy imports wait until a job runs, so that --help, --cfg and shell completion answer at once.
"""

import atexit
import gc
import os
import re
import signal
import sys
from contextlib import suppress
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from kdsweep import __version__
from kdsweep.errors import TRACEBACKS, tell
from kdsweep.system.exits import FAILED, INTERRUPTED
from kdsweep.system.terminal import any_signs, reader_left

# Imports leave a million objects. Looking for cycles among them as often as Python does, and once more at the
# end, takes a quarter of what a sweep costs beyond its training. Launchers' processes import this module too.
gc.set_threshold(10_000, 20, 50)
atexit.register(gc.freeze)


def main() -> None:
    """The `kdsweep` command. Exit status 0: done, 1: a mistake or a failed job, 2: interrupted."""
    if "--version" in sys.argv[1:]:  # Hydra's own option prints its version alone
        print(f"kdsweep {__version__} (Hydra {hydra.__version__})")
        return
    any_signs()
    sys.argv[1:] = map(_at_home, sys.argv[1:])
    wanted = os.environ.get("HYDRA_FULL_ERROR") == "1" or "debug=true" in map(str.lower, sys.argv)
    os.environ.setdefault(TRACEBACKS, str(int(wanted)))
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises then, and prints no tracebacks of its own
    for sign in (signal.SIGTERM, signal.SIGHUP):  # a request to end, or a closed terminal, acts as Ctrl-C
        if signal.getsignal(sign) == signal.SIG_DFL:  # not under nohup
            signal.signal(sign, signal.default_int_handler)
    try:
        run()
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("kdsweep: interrupted; run the same command to resume", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except SystemExit as stop:  # argparse exits with 2, which means interrupted here
        sys.exit(FAILED if stop.code == 2 else stop.code)
    except BrokenPipeError:
        sys.exit(reader_left())
    except Exception as error:  # no traceback, whatever went wrong
        tell(error)
        sys.exit(FAILED)


def _at_home(argument: str) -> str:
    """An override with its ~ replaced by the home directory, which shells do only after keys without dots; a
    further teacher may be given keys that its file does not mention."""
    argument = re.sub(r"^teachers\.(?=\w+\.)", "++teachers.", argument)
    found = re.fullmatch(r"""([^='"]+=)(["']?)(sqlite:///)?(~[^'"]*)\2""", argument)
    if not found:
        return argument
    with suppress(RuntimeError):  # no such user: Hydra or the schema refuses the path
        return f"{found[1]}{found[2]}{found[3] or ''}{Path(found[4]).expanduser()}{found[2]}"
    return argument


def _help(part: str, *, _root_: DictConfig) -> str:
    """A part of --help, for its template in conf/config.yaml."""
    from kdsweep.cli.help import explained

    return explained(part, _root_)


OmegaConf.register_resolver("kdsweep.help", _help)


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
    except Exception as error:  # caught here, since Hydra would print the overrides first
        tell(error, composed)
        sys.exit(FAILED)
    return result.objective
