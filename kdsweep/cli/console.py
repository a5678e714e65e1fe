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
    """The parser of a command; `examples` are shell lines, each with a short explanation."""
    shown = "\n".join(f"  {line}" for line in examples.strip().splitlines())
    made = argparse.ArgumentParser(
        prog=name,
        description=description,
        epilog=f"examples:\n{shown}\n\n{EXIT_STATUS}" if shown else EXIT_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--version", action="version", version=f"{name} {__version__}")
    return made


def run(made: argparse.ArgumentParser, command: Callable[[argparse.Namespace], int]) -> NoReturn:
    """Parse the command line, run the command and leave by its exit status; mistakes are told in a line."""
    from kdsweep.errors import tell

    any_signs()
    try:
        for each in sys.argv[1:]:
            if EMPTY.fullmatch(each):  # it would be the folder that one is in, or a default
                made.error(f"{each or repr(each)}: must not be empty")
        status = command(made.parse_args())
        sys.stdout.flush()
        sys.exit(status)
    except KeyboardInterrupt:
        print(f"{made.prog}: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.exit(reader_left())
    except SystemExit as stop:  # argparse leaves by 2, which is another thing here
        sys.exit(FAILED if stop.code == 2 else stop.code)
    except Exception as error:
        tell(error, name=made.prog)
        sys.exit(FAILED)
