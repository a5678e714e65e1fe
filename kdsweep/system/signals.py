"""Signals that wait: whoever is interrupted in the middle of a write leaves a database locked."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

ASK_TO_END = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
Handler = Callable[[int, FrameType | None], object]


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Meanwhile, a signal that somebody handles waits until this is over; a second one does not.

    For short calls to a database. Ctrl-C within one would leave SQLAlchemy's connection with what it had
    begun, and whatever the process writes after that, such as how its run ended, would wait for a minute.
    """
    if threading.current_thread() is not threading.main_thread():  # where no signal is handled
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
