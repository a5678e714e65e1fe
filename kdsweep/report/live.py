"""The progress of a job on the screen: a live line on a terminal or in a notebook, plain lines elsewhere."""

import logging
import time
from collections.abc import Mapping
from functools import cache
from multiprocessing import current_process
from typing import Any, Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from kdsweep.results.events import EpochEnded, Event, StageFinished, Waiting
from kdsweep.results.network import Selection
from kdsweep.system.terminal import console, in_notebook, seconds

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 2.0
SECONDS_BETWEEN_UPDATES = 0.2  # of a notebook's line


class LiveLine(Protocol):
    """One line that changes while a stage is trained."""

    def begin(self) -> None: ...

    def epoch(self, event: EpochEnded, figures: str) -> None: ...

    def clear(self) -> None: ...

    def end(self) -> None: ...


class Display:
    """Shows the events of one job; `quiet` in a sweep, which shows a line per job."""

    def __init__(self, quiet: bool) -> None:
        self.console = console()
        self.quiet = quiet
        self.live = _live_line(self.console)
        self.last_line = time.monotonic()

    def __enter__(self) -> Self:
        if self.live:
            self.live.begin()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self.live:
            self.live.end()

    def show(self, event: Event) -> None:
        match event:
            case Waiting():
                self.line(f"  {event.role:<11} waiting: another job is training it")
            case EpochEnded():
                self._epoch(event)
            case StageFinished():
                if self.live:
                    self.live.clear()
                self.line(f"  {event.role:<11} {_finished(event)}")

    def line(self, text: str) -> None:
        log.info(text.strip())
        if not self.quiet:
            self.console.print(text)

    def _epoch(self, event: EpochEnded) -> None:
        figures = f"loss {event.metrics['train/loss']:.4f}{_val(event.metrics)}"
        if self.live:
            self.live.epoch(event, figures)
        elif time.monotonic() - self.last_line >= SECONDS_BETWEEN_LINES:
            self.line(f"  {event.role:<11} epoch {event.epoch}/{event.epochs}  {figures}")
            self.last_line = time.monotonic()


def _live_line(console: Console) -> LiveLine | None:
    """The live line of this process; workers share the screen, which has room for only one."""
    if current_process().name != "MainProcess":
        return None
    if in_notebook():
        return NotebookLine()
    return TerminalLine(console) if console.is_terminal else None


class TerminalLine:
    """A bar, moved by rich."""

    def __init__(self, console: Console) -> None:
        self.bar = Progress(
            TextColumn("  {task.description:<11}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self.begin, self.end = self.bar.start, self.bar.stop

    def epoch(self, event: EpochEnded, figures: str) -> None:
        if not self.bar.tasks or self.bar.tasks[-1].description != event.role:
            self.clear()
            self.bar.add_task(event.role, total=event.epochs, figures="")
        self.bar.update(self.bar.tasks[-1].id, completed=event.epoch, figures=figures)

    def clear(self) -> None:
        for task in list(self.bar.tasks):
            self.bar.remove_task(task.id)


class NotebookLine:
    """Text in one place of a cell's output."""

    def __init__(self) -> None:
        self.shown, self.last = "", 0.0

    def begin(self) -> None:
        _place()

    def epoch(self, event: EpochEnded, figures: str) -> None:
        if time.monotonic() - self.last >= SECONDS_BETWEEN_UPDATES:
            self._show(f"  {event.role:<11} epoch {event.epoch}/{event.epochs}  {figures}")
            self.last = time.monotonic()

    def clear(self) -> None:
        if self.shown:
            self._show("")

    end = clear

    def _show(self, text: str) -> None:
        _place().update({"text/plain": text}, raw=True)
        self.shown = text


@cache
def _place() -> Any:
    """A place for one line in the output of the cell, which all jobs of a sweep take in turn."""
    from IPython.display import display

    return display({"text/plain": ""}, raw=True, display_id=True)


def _finished(event: StageFinished) -> str:
    how = "reused " if event.reused else "trained"
    val = _val(event.history[event.best_epoch - 1])
    return f"{how}{val}  epoch {event.best_epoch} of {len(event.history)}, {seconds(event.seconds)}"


def _val(metrics: Mapping[str, float]) -> str:
    """An epoch's validation accuracy, if images were held back for it."""
    found = Selection.of_epoch(metrics)
    return f"  val {found.accuracy:.2%}" if found else ""
