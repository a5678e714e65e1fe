"""Hydra's launchers, with what they lack."""

from kdsweep.errors import KdsweepError


class ProcessDied(KdsweepError):
    """A job's process was killed, such as for want of memory."""
