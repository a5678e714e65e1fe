"""Image data sets: arrays and image files, read or decoded once, split and normalised."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdsweep.data.dataset import Dataset, load

__all__ = ["Dataset", "load"]


def __getattr__(name: str) -> Any:
    """Import a name when it is used: the processes that decode images import this package too."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from kdsweep.data import dataset

    return getattr(dataset, name)
