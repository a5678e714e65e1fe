"""Signals that wait: an interrupt in the middle of a write would leave a database locked."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

ASK_TO_END = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
Handler = Callable[[int, FrameType | None], object]


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold back a signal that has a handler until the block ends; a second signal is not held back.

    For short calls to a database. Ctrl-C within one would leave SQLAlchemy's connection in a transaction,
    and the next write, such as how the run ended, would wait for a minute.
    """
    if threading.current_thread() is not threading.main_thread():  # other threads handle no signals
        yield
        return
    handlers: dict[int, Handler] = {
        sign: handler for sign in ASK_TO_END if callable(handler := signal.getsignal(sign))
    }
    waiting: list[tuple[int, FrameType | None]] = []

    def wait(number: int, frame: FrameType | None) -> None:
        waiting.append((number, frame))
        if len(waiting) > 1:
            handlers[number](number, frame)

    for sign in handlers:
        signal.signal(sign, wait)
    try:
        yield
    finally:
        for sign, handler in handlers.items():
            signal.signal(sign, handler)
        if len(waiting) == 1:
            ((number, frame),) = waiting
            handlers[number](number, frame)
