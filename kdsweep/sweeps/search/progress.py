"""The lines of a search's trials, which the command prints if its workers print elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

from kdsweep.results.line import sweep_line
from kdsweep.results.result import RESULT, JobResult
from kdsweep.system.terminal import console

SECONDS_BETWEEN_LOOKS = 2.0


@contextmanager
def trial_lines(folder: Path, trials: int) -> Iterator[None]:
    """Meanwhile, print the line of each trial whose result appears in the sweep's `folder`."""
    over, printed = Event(), set(_results(folder))

    def show() -> None:
        for file in sorted(_results(folder) - printed, key=lambda file: file.stat().st_mtime):
            printed.add(file)
            console().print(sweep_line(JobResult.load(file.parent), trials), markup=False)

    def watch() -> None:
        while not over.wait(SECONDS_BETWEEN_LOOKS):
            show()

    watcher = Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        show()


def _results(folder: Path) -> set[Path]:
    """The files of results, without those of workers, which are no jobs."""
    return {file for file in folder.rglob(RESULT) if file.relative_to(folder).parts[0] != "workers"}
