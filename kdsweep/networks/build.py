"""From a network's description in the config to the network, with messages for what does not fit."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdsweep.config.code import import_from_here
from kdsweep.errors import ConfigError
from kdsweep.networks import INIT
from kdsweep.networks.weights import load_weights

if TYPE_CHECKING:
    from torch import nn


_problems: dict[tuple[Any, ...], str | None] = {}  # of the networks that this process has tried
_counts: dict[str, int] = {}  # of parameters


def build(model: Mapping[str, Any], num_classes: int, shape: tuple[int, int, int]) -> "nn.Module":
    """The network `model` for images of `shape` (channels, height, width), whose weights are to be loaded.

    Raises ConfigError if it is not to be found or refuses its options.
    """
    return _instantiate(
        {**model, "pretrained": False} if "pretrained" in model else model, num_classes, shape
    )


def build_initial(
    model: Mapping[str, Any],
    num_classes: int,
    shape: tuple[int, int, int],
    weights: Path | None,
    trained: bool = True,
) -> "nn.Module":
    """The network as its training begins: with the weights of a file, pretrained ones, or fresh ones.

    Raises ConfigError also if the weights are not to be had or do not fit.
    """
    if weights is not None:
        from kdsweep.networks.fitting import begin_with

        network = build(model, num_classes, shape)
        begin_with(network, load_weights(weights), weights, trained)
        return network
    return _instantiate(model, num_classes, shape)


def _instantiate(model: Mapping[str, Any], num_classes: int, shape: tuple[int, int, int]) -> "nn.Module":
    from hydra.utils import UNSAFE_DISABLE_EXECUTION_CHECKS, instantiate
    from torch import nn

    channels, *image_size = shape
    options = dict(model)
    init = options.pop(INIT, "own")
    import_from_here()
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
        if isinstance(cause, ConfigError):
            raise cause from None
        raise ConfigError(f"model._target_={model['_target_']}: {one_line(cause)}") from error
    if not isinstance(network, nn.Module):
        raise ConfigError(
            f"model._target_={model['_target_']}: gave {type(network).__name__}, not an nn.Module"
        )
    if init != "own":
        _initialize(network, init)
    return network


def _initialize(network: "nn.Module", init: str) -> None:
    """Keras' defaults for a network, and for the head alone of a backbone, whose body is its library's."""
    from kdsweep.networks.backbone import Backbone
    from kdsweep.networks.keras import as_keras

    fresh = network.head if isinstance(network, Backbone) else network
    try:
        as_keras(fresh, "he_normal" if init == "keras_he" else "glorot_uniform")
    except ValueError as error:
        raise ConfigError(f"init={init}: the network {error}; allowed: own") from error


def check(
    model: Mapping[str, Any],
    num_classes: int,
    shape: tuple[int, int, int],
    weights: Path | None = None,
    trained: bool = True,
) -> None:
    """Raise ConfigError unless the network takes two images of `shape` and gives logits [2, num_classes].

    Memory is laid out as in training, channels last, which a network that uses `view` may not take. Each is
    tried once per process.
    """
    tried = (repr(model), num_classes, shape, weights, trained)
    if tried not in _problems:
        try:
            _try(model, num_classes, shape, weights, trained)
            _problems[tried] = None
        except ConfigError as error:
            _problems[tried] = str(error)
    if problem := _problems[tried]:
        raise ConfigError(problem)


def _try(
    model: Mapping[str, Any],
    num_classes: int,
    shape: tuple[int, int, int],
    weights: Path | None,
    trained: bool,
) -> None:
    import torch

    with torch.random.fork_rng(devices=[]), torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Initializing zero-element")  # which is refused below
        network = build_initial(model, num_classes, shape, weights, trained).eval()
        network.to(memory_format=torch.channels_last)
        images = torch.zeros(2, *shape).contiguous(memory_format=torch.channels_last)
        size = "×".join(map(str, shape))
        try:
            logits = network(images)
        except Exception as error:
            raise ConfigError(
                f"model._target_={model['_target_']}: does not take images of {size}: {one_line(error)}"
            ) from error
    if getattr(logits, "shape", None) != (2, num_classes):
        given = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise ConfigError(
            f"model._target_={model['_target_']}: gives {given} for two images; "
            f"must be logits of shape (2, {num_classes}), one per class"
        )
    if weights is not None and not bool(logits.isfinite().all()):
        raise ConfigError(f"weights={weights}: the network gives NaN or infinity with them")
    if empty := next((name for name, each in network.named_parameters() if each.numel() == 0), None):
        raise ConfigError(
            f"model._target_={model['_target_']}: its {empty} has no weights, for its layer has no width; "
            "widths must be 1 or more"
        )
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise ConfigError(f"model._target_={model['_target_']}: has no parameters to train")


def parameter_count(model: Mapping[str, Any], num_classes: int, shape: tuple[int, int, int]) -> int:
    """How many parameters the network has; counted once per process."""
    import torch

    counted = repr((model, num_classes, shape))
    if counted not in _counts:
        with torch.random.fork_rng(devices=[]):
            network = build(model, num_classes, shape)
        _counts[counted] = sum(parameter.numel() for parameter in network.parameters())
    return _counts[counted]


def one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
