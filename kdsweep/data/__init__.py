"""Image data sets: named sources, read into uint8 arrays once per process, split and normalised."""

from kdsweep.data.dataset import Dataset, load
from kdsweep.data.sources import SOURCES, Arrays, Source

__all__ = ["SOURCES", "Arrays", "Dataset", "Source", "load"]
