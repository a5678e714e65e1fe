"""From a network's description in the config to the network, with messages if it does not fit."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdsweep.config import is_file
from kdsweep.config.code import import_from_here
from kdsweep.errors import ConfigError, Trials
from kdsweep.networks import CLASSES, GIVES, INIT, STUDENT, has_logits
from kdsweep.networks.weights import load_weights
from kdsweep.system.foreign_errors import one_line

if TYPE_CHECKING:
    from torch import nn


_trials = Trials()
_counts: dict[str, int] = {}  # numbers of parameters


def build(model: Mapping[str, Any], num_classes: int, shape: tuple[int, int, int]) -> "nn.Module":
    """The network `model` for images of `shape` (channels, height, width), before its weights are loaded.

    Raises ConfigError if it cannot be found or refuses its options.
    """
    fresh = {**model, "pretrained": False} if "pretrained" in model else model
    return _instantiate(fresh, num_classes, shape)


def build_initial(
    model: Mapping[str, Any],
    num_classes: int,
    shape: tuple[int, int, int],
    weights: Path | None,
    trained: bool = True,
) -> "nn.Module":
    """The network as its training begins: with the weights of a file, pretrained or fresh ones.

    Raises ConfigError also if the weights are missing or do not fit.
    """
    if weights is None:
        return _instantiate(model, num_classes, shape)
    from kdsweep.networks.fitting import begin_with

    network = build(model, num_classes, shape)
    if is_file(model):
        network.read(weights)  # type: ignore[operator]
    elif STUDENT in model:  # the file is for the network around which the method put its own
        inner = build_initial(model[STUDENT], num_classes, shape, weights, trained)
        network.begin_from(inner)  # type: ignore[operator]
    else:
        begin_with(network, load_weights(weights), weights, trained)
    return network


def _instantiate(model: Mapping[str, Any], num_classes: int, shape: tuple[int, int, int]) -> "nn.Module":
    from hydra.utils import UNSAFE_DISABLE_EXECUTION_CHECKS, instantiate
    from torch import nn

    channels, *image_size = shape
    options = {key: value for key, value in model.items() if key not in (INIT, GIVES, CLASSES)}
    init, classes = model.get(INIT, "own"), model.get(CLASSES)
    import_from_here()
    try:
        network = instantiate(
            options,
            num_classes=classes["outputs"] if classes else num_classes,
            in_channels=channels,
            image_size=tuple(image_size),
            _convert_="all",
            # a config may name any network of its user: it is trusted like the user's code
            _execution_whitelist_=UNSAFE_DISABLE_EXECUTION_CHECKS,
        )
    except Exception as error:  # the network may be any code
        cause = error if isinstance(error, ConfigError) else error.__cause__ or error
        if isinstance(cause, ConfigError):
            raise cause from None
        raise ConfigError(f"model._target_={model['_target_']}: {one_line(cause)}") from error
    if not isinstance(network, nn.Module):
        given = type(network).__name__
        raise ConfigError(f"model._target_={model['_target_']}: gave {given}, not an nn.Module")
    if init != "own":
        _initialize(network, init)
    if GIVES in model or classes:
        from kdsweep.networks.mapped import adapt

        adapt(network, model)
    return network


def _initialize(network: "nn.Module", init: str) -> None:
    """Apply Keras' defaults to a network; of a backbone only to its head: the library draws the body."""
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

    Memory is laid out as in training, channels last, with which a network that uses `view` may fail. Each
    network is tried once per process.
    """
    tried = repr((model, num_classes, shape, weights, trained))
    _trials.once(tried, lambda: _try(model, num_classes, shape, weights, trained))


def _try(
    model: Mapping[str, Any],
    num_classes: int,
    shape: tuple[int, int, int],
    weights: Path | None,
    trained: bool,
) -> None:
    import torch

    with torch.random.fork_rng(devices=[]), torch.no_grad(), warnings.catch_warnings():
        # a layer without weights is refused below
        warnings.filterwarnings("ignore", "Initializing zero-element")
        network = build_initial(model, num_classes, shape, weights, trained).eval()
        network.to(memory_format=torch.channels_last)
        images = torch.zeros(2, *shape).contiguous(memory_format=torch.channels_last)
        size = "×".join(map(str, shape))
        try:
            logits = network(images)
        except ConfigError as error:
            where = f"weights={weights}" if weights else f"model._target_={model['_target_']}"
            raise ConfigError(f"{where}: {error}") from error
        except Exception as error:  # the network may be any code
            raise ConfigError(
                f"model._target_={model['_target_']}: does not take images of {size}: {one_line(error)}"
            ) from error
    if not has_logits(model):
        _check_embeddings(model, logits)
    elif getattr(logits, "shape", None) != (2, num_classes):
        given = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise ConfigError(
            f"model._target_={model['_target_']}: gives {given} for two images; "
            f"must be logits of shape (2, {num_classes}), one per class"
        )
    if weights is not None and not bool(logits.isfinite().all()):
        raise ConfigError(f"weights={weights}: the network gives NaN or infinity with them")
    if CLASSES in model and not trained and weights is None and not getattr(network, "keeps_head", True):
        raise ConfigError(
            f"num_classes={model[CLASSES]['outputs']}: the pretrained weights have another number of outputs"
        )
    if empty := next((name for name, each in network.named_parameters() if each.numel() == 0), None):
        raise ConfigError(
            f"model._target_={model['_target_']}: its {empty} has no weights, since its layer has no width; "
            "widths must be 1 or more"
        )
    if trained and not any(parameter.requires_grad for parameter in network.parameters()):
        raise ConfigError(f"model._target_={model['_target_']}: has no parameters to train")


def _check_embeddings(model: Mapping[str, Any], given: Any) -> None:
    shape = tuple(getattr(given, "shape", ()))
    if len(shape) < 2 or shape[0] != 2 or any(size > 1 for size in shape[2:]):
        found = shape or type(given).__name__
        raise ConfigError(
            f"model._target_={model['_target_']}: gives {found} for two images; with gives=embedding it must "
            "give a vector for each, of shape (2, dimensions)"
        )


def parameter_count(model: Mapping[str, Any], num_classes: int, shape: tuple[int, int, int]) -> int:
    """The network's number of parameters, counted once per process."""
    import torch

    counted = repr((model, num_classes, shape))
    if counted not in _counts:
        with torch.random.fork_rng(devices=[]):
            network = build(model, num_classes, shape)
        _counts[counted] = sum(parameter.numel() for parameter in network.parameters())
    return _counts[counted]
