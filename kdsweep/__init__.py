"""kdsweep: knowledge-distillation experiments as sweeps."""

from importlib.metadata import version

__version__ = version("kdsweep")
