"""Messages while many files are read."""

from collections.abc import Callable
from functools import cache
from multiprocessing import current_process


@cache
def once(show: Callable[[str], object], text: str) -> None:
    """Print a text once, though many jobs come to it; workers leave it to the process that checked them."""
    if current_process().name == "MainProcess":
        show(text)
