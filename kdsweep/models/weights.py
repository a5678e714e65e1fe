"""Weights that a network begins with: where they lie, what they are, and how they fit."""

import hashlib
import pickle
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdsweep.errors import ConfigError, KdsweepError
from kdsweep.store import Store

if TYPE_CHECKING:
    from torch import Tensor, nn

WEIGHTS = "weights.safetensors"  # of a stage in the store
STAGE, RUN = "stage:", "runs:/"
WRAPPERS = ("state_dict", "model", "model_state_dict")  # keys under which checkpoints keep the weights


def locate(weights: str, store: Store, fetch: Callable[[str], Path]) -> Path:
    """The file that a config's `weights` name; `fetch` downloads an artifact of an MLflow run.

    Raises ConfigError if there is none.
    """
    if weights.startswith(RUN):
        try:
            return fetch(weights)
        except KdsweepError as error:
            raise ConfigError(f"weights={error}") from error
    if weights.startswith(STAGE):
        entry = store.find(weights.removeprefix(STAGE))
        if entry is None or not (entry / WEIGHTS).is_file():
            raise ConfigError(f"weights={weights}: the store {store.root} has no such stage")
        return entry / WEIGHTS
    file = Path(weights).expanduser()
    if not file.is_file():
        raise ConfigError(
            f"weights={weights}: no such file; allowed: a file of weights (safetensors, or a PyTorch "
            f"checkpoint), {STAGE}KEY of the store, {RUN}ID/PATH of MLflow"
        )
    return file


def weights_digest(file: Path) -> str:
    stat = file.stat()
    return _digest(file, stat.st_size, stat.st_mtime_ns)


@lru_cache
def _digest(file: Path, size: int, changed: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:32]


def load_weights(file: Path) -> "dict[str, Tensor]":
    """The tensors of a file by name. Nothing is unpickled but tensors; ConfigError if that is not enough."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, EOFError, RuntimeError) as error:
        reason = (str(error) or "it ends too early").splitlines()[0]
        raise ConfigError(f"weights={file}: cannot be read ({reason})") from error
    except pickle.UnpicklingError as error:
        raise ConfigError(
            f"weights={file}: is no PyTorch checkpoint or holds more than tensors, perhaps code, and is not "
            "opened; save the network's state_dict() alone, or as safetensors"
        ) from error
    except Exception as error:  # whatever torch raises for a file that is none of its own
        raise ConfigError(f"weights={file}: cannot be read (no PyTorch checkpoint)") from error
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    tensors = {k: v for k, v in content.items() if torch.is_tensor(v)} if isinstance(content, Mapping) else {}
    if not tensors:
        raise ConfigError(f"weights={file}: holds no tensors by name; save the network's state_dict()")
    return {str(name).removeprefix("module."): tensor for name, tensor in tensors.items()}


def begin_with(
    network: "nn.Module", tensors: "Mapping[str, Tensor]", file: Path, trained: bool = True
) -> None:
    """Copy `tensors` into `network`. Its head keeps fresh weights where the file has others or none.

    A network may know its tensors' names in the files of its library, `original_names`. Raises ConfigError if
    anything but the head would be left without weights, or the head too if it is not to be `trained`.
    """
    from kdsweep.models.anatomy import head_of

    names: Mapping[str, str] = getattr(network, "original_names", {})
    given = {names.get(name, name): tensor for name, tensor in tensors.items()}
    own: dict[str, Any] = network.state_dict()
    fitting = {
        name: tensor for name, tensor in given.items() if name in own and tensor.shape == own[name].shape
    }
    head = {id(tensor) for tensor in head_of(network).state_dict(keep_vars=True).values()}
    of_head = {name for name, tensor in network.state_dict(keep_vars=True).items() if id(tensor) in head}
    needless = {name for name in own if name.endswith("num_batches_tracked")}  # old checkpoints have none
    lacking = [
        name for name in own if name not in {*fitting, *needless} and (name not in of_head or not trained)
    ]
    if lacking:
        original = {own: name for name, own in names.items()}
        first = original.get(lacking[0], lacking[0])
        what = (
            f"{first} has shape {tuple(given[lacking[0]].shape)} there and must have "
            f"{tuple(own[lacking[0]].shape)}"
            if lacking[0] in given
            else f"it has no {first}; its first is {next(iter(tensors))}"
        )
        untrained = "" if trained else "; a network that is not trained needs all, its head too"
        raise ConfigError(
            f"weights={file}: do not fit the network: {len(lacking)} of {len(own)} tensors lack "
            f"({what}){untrained}"
        )
    network.load_state_dict(fitting, strict=False)
