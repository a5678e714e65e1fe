"""Files of weights: their digests and their tensors."""

import pickle
import re
import warnings
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from kdsweep.errors import ConfigError
from kdsweep.system.files import sha256
from kdsweep.system.foreign_errors import first_line

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = "weights.safetensors"  # of a stage in the store
DEEPEST = 5  # levels of parts in a checkpoint, which may contain itself


def weights_digest(file: Path) -> str:
    try:
        stat = file.stat()
        return _digest(file, stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise ConfigError(f"weights={file}: cannot be read ({error.strerror})") from error


@lru_cache
def _digest(file: Path, size: int, changed: int) -> str:
    return sha256(file)[:32]


def load_weights(file: Path) -> "dict[str, Tensor]":
    """The tensors of a file by name; those in parts of a checkpoint by `part/name`.

    No code of the file runs: apart from tensors it may hold numbers, words and a few types of training
    checkpoints. Raises ConfigError for anything else.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if _is_safetensors(file):
            content: Any = load_file(file)
        else:
            with torch.serialization.safe_globals(_harmless()), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch warns of old formats and sparse tensors
                content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"holds {found[1]} beside tensors" if found else "holds more than tensors"
        raise ConfigError(
            f"weights={file}: is not a PyTorch checkpoint or {what}, perhaps code, and is not opened; save "
            "only the network's state_dict(), or safetensors"
        ) from error
    except (SafetensorError, OSError, EOFError, RuntimeError) as error:
        raise ConfigError(
            f"weights={file}: cannot be read ({first_line(error, 'it ends too early')})"
        ) from error
    except Exception as error:  # torch raises many types for files that it does not recognise
        raise ConfigError(f"weights={file}: cannot be read (not a PyTorch checkpoint)") from error
    tensors = dict(_tensors(content))
    if not tensors:
        raise ConfigError(f"weights={file}: holds no tensors by name; save the network's state_dict()")
    return tensors


def _is_safetensors(file: Path) -> bool:
    """Whether the file has the suffix or, since not all have it, begins with a header's length and JSON."""
    if file.suffix == ".safetensors":
        return True
    with file.open("rb") as stream:
        return stream.read(9)[8:] == b"{"


def _harmless() -> list[Any]:
    """Types in checkpoints of trainings apart from tensors: options, figures and states of generators.

    Unpickling them only runs their constructors, which do nothing else.
    """
    import argparse

    import numpy as np
    from torch.torch_version import TorchVersion

    kinds: list[Any] = [argparse.Namespace, TorchVersion, np.dtype, np.ndarray]
    kinds += [(PurePosixPath, f"{module}.PosixPath") for module in ("pathlib", "pathlib._local")]
    kinds += [type(np.dtype(code)) for code in np.typecodes["All"] if code != "O"]
    scalar, array = np.float32(0).__reduce__()[0], np.zeros(0).__reduce__()[0]
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):  # of NumPy 1 and 2
        kinds += [(scalar, f"{module}.scalar"), (array, f"{module}._reconstruct")]
    return kinds


def _tensors(content: Any, part: str = "", depth: int = 0) -> "Iterator[tuple[str, Tensor]]":
    import torch

    if isinstance(content, Mapping) and depth < DEEPEST:
        for name, value in content.items():
            if not torch.is_tensor(value):
                yield from _tensors(value, f"{part}{name}/", depth + 1)
            elif not value.is_nested:  # a nested tensor has no shape, so it cannot be weights
                yield f"{part}{name}", value
