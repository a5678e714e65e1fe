"""What a person sees while many files are read."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from multiprocessing import current_process


@cache
def once(show: Callable[[str], object], text: str) -> None:
    """Shows a text that many jobs come to once; workers leave it to the process that checked them."""
    if current_process().name == "MainProcess":
        show(text)


@contextmanager
def progress(task: str, total: int) -> Iterator[Callable[[int], None]]:
    """Shows a bar on a terminal, else one line; gives the function to call with each number of files done."""
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
