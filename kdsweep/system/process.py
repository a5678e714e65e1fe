"""What a run changes of its process, put back where the process is somebody else's."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import invalidate_caches
from io import TextIOWrapper
from warnings import catch_warnings

from kdsweep.system.terminal import in_notebook


def forget() -> None:
    """Clear kdsweep's caches of this process: files and code may have changed since an earlier run."""
    invalidate_caches()
    for name, module in list(sys.modules.items()):
        if name.startswith("kdsweep."):
            for value in list(vars(module).values()):
                if hasattr(value, "cache_clear") and not isinstance(value, type):
                    value.cache_clear()


@contextmanager
def as_it_was() -> Iterator[None]:
    """Put back arguments, environment, import path, logging, the streams' signs, what torch has."""
    import torch

    if in_notebook():
        _import_tqdm()
    threads, tf32 = torch.get_num_threads(), torch.backends.cudnn.allow_tf32
    argv, environment, path = sys.argv, dict(os.environ), list(sys.path)
    streams = [each for each in (sys.stdout, sys.stderr) if isinstance(each, TextIOWrapper)]
    errors = [each.errors for each in streams]
    try:
        with _logging_as_it_was(), torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(threads)
        torch.backends.cudnn.allow_tf32 = tf32
        sys.argv, sys.path[:] = argv, path
        os.environ.update(environment)
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        for stream, wanted in zip(streams, errors, strict=True):
            stream.reconfigure(errors=wanted)


def _import_tqdm() -> None:
    """Import other libraries' bars without their advice to install widgets, which kdsweep does not use."""
    with catch_warnings(action="ignore"), suppress(ImportError):
        import tqdm.auto  # noqa: F401


@contextmanager
def _logging_as_it_was() -> Iterator[None]:
    """Let Hydra configure logging from nothing; put back the root's handlers and every known logger's level.

    Configuring closes all handlers that logging knows, so the process's own are kept out of its sight.
    """
    root, known = logging.getLogger(), logging._handlerList[:]  # type: ignore[attr-defined]
    loggers = [root, *(each for each in root.manager.loggerDict.values() if isinstance(each, logging.Logger))]
    before = [(each, each.level, each.handlers[:], each.propagate, each.disabled) for each in loggers]
    logging._handlerList.clear()  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for handler in set(root.handlers) - set(before[0][2]):
            handler.close()
        for logger, level, handlers, propagate, disabled in before:
            logger.handlers[:], logger.propagate, logger.disabled = handlers, propagate, disabled
            logger.setLevel(level)
        logging._handlerList[:0] = known  # type: ignore[attr-defined]
