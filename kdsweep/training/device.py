"""Which device a job computes on."""

import torch

from kdsweep.config import Hardware
from kdsweep.errors import ConfigError


def resolve(hardware: Hardware) -> torch.device:
    """The device that the config asks for. Raises ConfigError if this machine has none such."""
    if hardware.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(hardware.device)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"hardware.device={hardware.device}: {torch.cuda.device_count()} CUDA GPUs are visible here; "
            "take hardware=cpu, or hardware=auto for whatever there is"
        )
    return device
