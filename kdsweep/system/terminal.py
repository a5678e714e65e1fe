"""Output for people: the width, line breaks at words, closed pipes."""

import codecs
import io
import logging
import os
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import current_process
from pathlib import Path
from typing import TextIO

from rich.console import Console

from kdsweep.system.exits import DONE

NOTEBOOK_WIDTH = 100  # columns, which fit into Jupyter's classic notebook

SIGNS = {
    "α": "alpha", "β": "beta", "γ": "gamma", "ε": "epsilon", "θ": "theta", "λ": "lambda", "μ": "mu",
    "σ": "sigma", "τ": "tau", "↔": "<->", "Δ": "difference ", "×": "x", "·": ",", "±": "+-", "≈": "~",
    "≤": "<=", "≥": ">=", "≠": "!=", "−": "-", "–": "-", "—": "-", "→": "->", "←": "<-", "…": "...",
    "²": "^2", "‘": "'", "’": "'", "“": '"', "”": '"', "━": "-", "╸": "-", "╺": "-", "•": "*",
}  # fmt: skip


def any_signs() -> None:
    """Print every character in any encoding: replace those that it lacks by others, or by their number."""
    codecs.register_error("kdsweep", _in_other_signs)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors != "kdsweep":
            stream.reconfigure(errors="kdsweep")


def _in_other_signs(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    sign, after = error.object[error.start], error.start + 1
    if "\udc80" <= sign <= "\udcff":  # a byte of a file name that is no text stays as it is
        return bytes([ord(sign) - 0xDC00]), after
    plain = unicodedata.normalize("NFKD", sign).encode("ascii", "ignore").decode()
    return SIGNS.get(sign) or plain or sign.encode("ascii", "backslashreplace").decode(), after


def say(text: str, stream: TextIO) -> None:
    """Print sentences; a terminal breaks lines between words."""
    print(_at_words(text, stream), file=stream)


class Warnings(logging.Formatter):
    """The formatter of the log on stderr (conf/config.yaml), which breaks lines between words too."""

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


def reader_left() -> int:
    """The exit status when nobody reads stdout any more, as after | head; buffered output is discarded."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return DONE


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Continue when nobody reads stdout any more, as after | head; rich would exit."""
        reader_left()


def console() -> Console:
    """A console of the terminal's width that breaks lines between words. Without a terminal lines stay whole
    and tables are as wide as COLUMNS says, or 120; a notebook, which has less room, gets plain text too."""
    any_signs()  # a launcher's process has not done so
    terminal, notebook = sys.stdout.isatty(), in_notebook()
    width = None if terminal or "COLUMNS" in os.environ else NOTEBOOK_WIDTH if notebook else 120
    return _Console(highlight=False, width=width, soft_wrap=not terminal, force_jupyter=False)


def in_notebook() -> bool:
    """Whether a notebook shows what this process prints."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return hasattr(shell, "kernel")


def relative(path: Path) -> str:
    """A path relative to the working directory if it is below it."""
    here, whole = Path.cwd(), path.absolute()
    return str(whole.relative_to(here) if whole.is_relative_to(here) else path)


def seconds(value: float) -> str:
    """A duration as people write it."""
    if value < 100:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min {rest:02d} s"


def size(count: float) -> str:
    """Bytes as people write them."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} GB"


@contextmanager
def progress(task: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on a terminal, else one line; yields a function that takes the number of files just done."""
    # workers share the terminal, where only one live display fits
    if not sys.stdout.isatty() or current_process().name != "MainProcess":
        print(f"  {task}", flush=True)
        yield lambda done: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("  {task.description}"), BarColumn(bar_width=24), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), transient=True) as live:
        bar = live.add_task(task, total=total)
        yield lambda done: live.update(bar, advance=done)
