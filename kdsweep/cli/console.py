"""What the console scripts have in common: their help, how they end, and what they print on."""

import argparse
import codecs
import io
import logging
import os
import re
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Callable
from importlib.resources import files
from typing import NoReturn, TextIO

from kdsweep import __version__

DONE, FAILED, INTERRUPTED = 0, 1, 2

EMPTY = re.compile(r"(--[\w-]+=)?\s*")  # an argument, or an option's value
EXIT_STATUS = "exit status: 0 done, 1 a mistake or a failure, 2 interrupted"


def parser(name: str, description: str, examples: str = "") -> argparse.ArgumentParser:
    """The parser of a command; `examples` are lines of shell, each with a word on what it does."""
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


SIGNS = {
    "α": "alpha", "μ": "mu", "σ": "sigma", "Δ": "difference ", "×": "x", "·": ",", "±": "+-", "≈": "~",
    "≤": "<=", "≥": ">=", "≠": "!=", "−": "-", "–": "-", "—": "-", "→": "->", "←": "<-", "…": "...",
    "²": "^2", "‘": "'", "’": "'", "“": '"', "”": '"', "━": "-", "╸": "-", "╺": "-", "•": "*",
}  # fmt: skip


def any_signs() -> None:
    """Let every sign be printed in whatever encoding: those it lacks in other signs, else by their number."""
    codecs.register_error("kdsweep", _in_other_signs)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors != "kdsweep":
            stream.reconfigure(errors="kdsweep")


def _in_other_signs(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    sign, after = error.object[error.start], error.start + 1
    if "\udc80" <= sign <= "\udcff":  # a byte of a file's name that is no text: it stays as it is
        return bytes([ord(sign) - 0xDC00]), after
    plain = unicodedata.normalize("NFKD", sign).encode("ascii", "ignore").decode()
    return SIGNS.get(sign) or plain or sign.encode("ascii", "backslashreplace").decode(), after


def say(text: str, stream: TextIO) -> None:
    """Print a sentence or several; on a terminal lines are broken at words, and words stay whole."""
    print(_at_words(text, stream), file=stream)


class Warnings(logging.Formatter):
    """Of the log's handler that writes to stderr (conf/config.yaml): broken at words, too."""

    def format(self, record: logging.LogRecord) -> str:
        return _at_words(super().format(record), sys.stderr)


def _at_words(text: str, stream: TextIO) -> str:
    if not stream.isatty():
        return text
    wrapper = textwrap.TextWrapper(
        shutil.get_terminal_size().columns,
        replace_whitespace=False,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(wrapper.fill(line) for line in text.splitlines())


def configured(key: str) -> str:
    """What conf/config.yaml has for a key, for an option that was not given."""
    from omegaconf import OmegaConf

    return str(OmegaConf.select(OmegaConf.load(str(files("kdsweep.conf") / "config.yaml")), key))


def reader_left() -> int:
    """The exit status where nobody reads stdout any more, as of | head; what is buffered goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return DONE
