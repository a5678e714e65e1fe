"""The console script `kdsweep`: what a command is beyond its run, from --help to the exit status.

Heavy imports wait until a job runs, so that --help, --cfg and shell completion answer at once.
"""

import atexit
import gc
import signal
import sys

import hydra
from omegaconf import DictConfig, OmegaConf

from kdsweep import __version__
from kdsweep.errors import tell
from kdsweep.launch import launch
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
    for sign in (signal.SIGTERM, signal.SIGHUP):  # a request to end, or a closed terminal, acts as Ctrl-C
        if signal.getsignal(sign) == signal.SIG_DFL:  # not under nohup
            signal.signal(sign, signal.default_int_handler)
    try:
        ended = launch(sys.argv[1:])
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("kdsweep: interrupted; run the same command to resume", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.exit(reader_left())
    except Exception as error:  # no traceback, whatever went wrong
        tell(error)
        sys.exit(FAILED)
    sys.exit(ended.status)


def _help(part: str, *, _root_: DictConfig) -> str:
    """A part of --help, for its template in conf/config.yaml."""
    from kdsweep.cli.help import explained

    return explained(part, _root_)


OmegaConf.register_resolver("kdsweep.help", _help)
