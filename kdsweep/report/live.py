"""The progress of a job on the screen: one live line on a terminal, plain lines elsewhere."""

import logging
import time
from collections.abc import Mapping
from multiprocessing import current_process
from typing import Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from kdsweep.results.events import EpochEnded, Event, StageFinished, Waiting
from kdsweep.results.network import Selection
from kdsweep.system.terminal import console, seconds

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 2.0


class Display:
    """Shows the events of one job; `quiet` in a sweep, which shows a line per job."""

    def __init__(self, quiet: bool) -> None:
        self.console = console()
        self.quiet = quiet
        self.live: Progress | None = None
        self.last_line = time.monotonic()
        # workers share the terminal, which has room for only one live display
        if self.console.is_terminal and current_process().name == "MainProcess":
            self.live = Progress(
                TextColumn("  {task.description:<11}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[figures]}"),
                TimeElapsedColumn(),
                console=self.console,
                transient=True,
            )

    def __enter__(self) -> Self:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self.live:
            self.live.stop()

    def show(self, event: Event) -> None:
        match event:
            case Waiting():
                self.line(f"  {event.role:<11} waiting: another job is training it")
            case EpochEnded():
                self._epoch(event)
            case StageFinished():
                self._clear()
                self.line(f"  {event.role:<11} {_finished(event)}")

    def line(self, text: str) -> None:
        log.info(text.strip())
        if not self.quiet:
            self.console.print(text)

    def _epoch(self, event: EpochEnded) -> None:
        figures = f"loss {event.metrics['train/loss']:.4f}{_val(event.metrics)}"
        if self.live:
            if not self.live.tasks or self.live.tasks[-1].description != event.role:
                self._clear()
                self.live.add_task(event.role, total=event.epochs, figures="")
            self.live.update(self.live.tasks[-1].id, completed=event.epoch, figures=figures)
        elif time.monotonic() - self.last_line >= SECONDS_BETWEEN_LINES:
            self.line(f"  {event.role:<11} epoch {event.epoch}/{event.epochs}  {figures}")
            self.last_line = time.monotonic()

    def _clear(self) -> None:
        if self.live:
            for task in list(self.live.tasks):
                self.live.remove_task(task.id)


def _finished(event: StageFinished) -> str:
    how = "reused " if event.reused else "trained"
    val = _val(event.history[event.best_epoch - 1])
    return f"{how}{val}  epoch {event.best_epoch} of {len(event.history)}, {seconds(event.seconds)}"


def _val(metrics: Mapping[str, float]) -> str:
    """An epoch's validation accuracy, if images were held back for it."""
    found = Selection.of_epoch(metrics)
    return f"  val {found.accuracy:.2%}" if found else ""
