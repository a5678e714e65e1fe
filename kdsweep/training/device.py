"""Which device a job computes on. This module imports torch only if necessary."""

import ctypes
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from kdsweep.config import Hardware
from kdsweep.errors import ConfigError

if TYPE_CHECKING:
    import torch


def uses_cuda(hardware: Hardware) -> bool:
    """Whether jobs compute on a CUDA GPU; torch is asked only on a machine with a GPU driver."""
    if hardware.device_type is not None:
        return hardware.device_type == "cuda"
    return _has_driver() and _torch_finds_a_gpu()


def resolve(hardware: Hardware) -> "torch.device":
    """The device that the config asks for. Raises ConfigError if this machine lacks it."""
    import torch

    if not uses_cuda(hardware):
        return torch.device("cpu")
    device = torch.device("cuda" if hardware.device == "auto" else hardware.device)
    if (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"hardware.device={hardware.device}: {torch.cuda.device_count()} CUDA GPUs are visible here; "
            "take hardware=cpu, or hardware=auto for any device"
        )
    return device


@cache
def _has_driver() -> bool:
    """Whether a driver of NVIDIA, whose library torch looks for, or of AMD is installed."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return Path("/dev/kfd").exists()
    return True


@cache
def _torch_finds_a_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
