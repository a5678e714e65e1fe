"""From a network's description in the config to the network, with messages for what does not fit."""

import hashlib
import importlib.util
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdsweep.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn


_fitting: set[tuple[str, int, tuple[int, int, int]]] = set()  # what this process has tried


def build(model: Mapping[str, Any], num_classes: int, shape: tuple[int, int, int]) -> "nn.Module":
    """The network `model` for images of `shape` (channels, height, width), with fresh weights.

    Raises ConfigError if it is not to be found or refuses its options.
    """
    from hydra.utils import UNSAFE_DISABLE_EXECUTION_CHECKS, instantiate
    from torch import nn

    channels, *image_size = shape
    _import_from_here()
    options = {name: value for name, value in model.items() if name != "source"}
    try:
        network = instantiate(
            options,
            num_classes=num_classes,
            in_channels=channels,
            image_size=tuple(image_size),
            _convert_="all",
            # a user's config may name any network of theirs: it is trusted like their code
            _execution_whitelist_=UNSAFE_DISABLE_EXECUTION_CHECKS,
        )
    except Exception as error:
        cause = error.__cause__ or error
        raise ConfigError(f"model._target_={model['_target_']}: {_one_line(cause)}") from error
    if not isinstance(network, nn.Module):
        raise ConfigError(
            f"model._target_={model['_target_']}: gave {type(network).__name__}, not an nn.Module"
        )
    return network


def check(model: Mapping[str, Any], num_classes: int, shape: tuple[int, int, int]) -> None:
    """Raise ConfigError unless the network takes two images of `shape` and gives logits [2, num_classes]."""
    import torch

    tried = (repr(model), num_classes, shape)
    if tried in _fitting:
        return
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        network = build(model, num_classes, shape).eval()
        size = "×".join(map(str, shape))
        try:
            logits = network(torch.zeros(2, *shape))
        except Exception as error:
            raise ConfigError(
                f"model._target_={model['_target_']}: does not take images of {size}: {_one_line(error)}"
            ) from error
    if getattr(logits, "shape", None) != (2, num_classes):
        given = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise ConfigError(
            f"model._target_={model['_target_']}: gives {given} for two images; "
            f"must be logits of shape (2, {num_classes}), one per class"
        )
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise ConfigError(f"model._target_={model['_target_']}: has no parameters to train")
    _fitting.add(tried)


def source_digest(model: Mapping[str, Any]) -> str | None:
    """The content of the file that defines a user's own network; None for one that is installed.

    Nothing is imported but the packages above the module.
    """
    _import_from_here()
    module, found = str(model["_target_"]), None
    while found is None and "." in module:
        module = module.rpartition(".")[0]
        try:
            found = importlib.util.find_spec(module)
        except (ImportError, AttributeError, ValueError):
            continue
    if found is None or found.origin is None or not Path(found.origin).is_file():
        return None
    file = Path(found.origin).resolve()
    installed = [Path(sysconfig.get_path(kind)).resolve() for kind in ("purelib", "platlib", "stdlib")]
    ours = Path(__file__).resolve().parent.parent
    if any(file.is_relative_to(folder) for folder in (*installed, ours)):
        return None
    return hashlib.sha256(file.read_bytes()).hexdigest()[:32]


def _import_from_here() -> None:
    """A console script does not look for modules in the working directory, where users keep theirs."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
