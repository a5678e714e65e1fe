"""What the console scripts share: help, exit status and output streams."""

import argparse
import re
import sys
from collections.abc import Callable
from typing import NoReturn

from kdsweep import __version__
from kdsweep.system.exits import FAILED, INTERRUPTED
from kdsweep.system.terminal import any_signs, reader_left

EMPTY = re.compile(r"(--[\w-]+=)?\s*")  # an argument, or an option's value
EXIT_STATUS = "exit status: 0 done, 1 a mistake or a failure, 2 interrupted"


def parser(name: str, description: str, examples: str = "") -> argparse.ArgumentParser:
    """The parser of a command; each line of `examples` is a shell command and what it does."""
    lines = "\n".join(f"  {line}" for line in examples.strip().splitlines())
    command = argparse.ArgumentParser(
        prog=name,
        description=description,
        epilog=f"examples:\n{lines}\n\n{EXIT_STATUS}" if lines else EXIT_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--version", action="version", version=f"{name} {__version__}")
    return command


def run(parser: argparse.ArgumentParser, command: Callable[[argparse.Namespace], int]) -> NoReturn:
    """Parse the command line, run the command and exit with its status; explain mistakes in a line."""
    from kdsweep.errors import tell

    any_signs()
    try:
        for argument in sys.argv[1:]:
            if EMPTY.fullmatch(argument):  # it would mean the current folder, or a default
                parser.error(f"{argument or repr(argument)}: must not be empty")
        status = command(parser.parse_args())
        sys.stdout.flush()
        sys.exit(status)
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.exit(reader_left())
    except SystemExit as stop:  # argparse exits with 2, which means interrupted here
        sys.exit(FAILED if stop.code == 2 else stop.code)
    except Exception as error:  # no traceback, whatever went wrong
        tell(error, name=parser.prog)
        sys.exit(FAILED)
