"""Image data sets: named sources, read into uint8 arrays once per process, split and normalised."""

from kdsweep.data.dataset import Dataset, load

__all__ = ["Dataset", "load"]
