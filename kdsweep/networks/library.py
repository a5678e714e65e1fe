"""Networks as timm and torchvision make them, with a head for the data's classes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from kdsweep.networks.backbone import Backbone, Head, Preprocess
from kdsweep.networks.hub import ask_hub, downloading
from kdsweep.networks.parts import layers

Upsample = Literal["own"] | int


def timm(
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int],
    architecture: str,
    pretrained: bool = False,
    pooling: Literal["own", "avg", "max"] = "own",
    upsample: Upsample = "own",
    head: dict[str, Any] | None = None,
) -> Backbone:
    """A network of timm by name, with its own normalisation and, unless upsampled by a factor, image size."""
    options: dict[str, Any] = {} if pooling == "own" else {"global_pool": pooling}
    network = _by_timm(architecture, pretrained, num_classes=num_classes, **options)
    config: Any = network.pretrained_cfg
    size = (int(config["input_size"][1]), int(config["input_size"][2]))
    preprocess = _preprocess(config["mean"], config["std"], size, in_channels, image_size, upsample)
    named = config["classifier"] or ()
    classifiers = [named] if isinstance(named, str) else list(named)
    keep = pretrained and num_classes == config["num_classes"]
    images = (in_channels, *image_size)
    return Backbone(preprocess, network, classifiers, Head(**head or {}), num_classes, keep, images)


def _by_timm(architecture: str, pretrained: bool, **options: Any) -> nn.Module:
    import timm as library
    from huggingface_hub.constants import HF_HUB_CACHE

    hub = architecture.partition("hf-hub:")[2]  # that repository has the network's description, too
    config = None if hub else library.models.get_pretrained_cfg(architecture)
    repository = hub or (config.hf_hub_id if config and pretrained else None)
    files = ["config.json"] if hub else ["model.safetensors", "pytorch_model.bin"]
    what = f"{repository} of the Hugging Face hub" if repository else "them"
    with downloading(architecture, what, HF_HUB_CACHE):
        if repository:
            ask_hub(repository, files)
        return library.create_model(architecture, pretrained=pretrained, **options)


def torchvision(
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int],
    architecture: str,
    pretrained: bool | str = False,
    pooling: Literal["own", "avg", "max"] = "own",
    upsample: Upsample = "own",
    head: dict[str, Any] | None = None,
) -> Backbone:
    """A network of torchvision by name, with its own normalisation and, unless upsampled, image size.

    `pretrained` may name weights of torchvision, such as IMAGENET1K_V1; true means the newest.
    """
    from torchvision import models

    known = models.get_model_weights(architecture)
    weights = _named_weights(known, pretrained) if isinstance(pretrained, str) else known.DEFAULT
    if pretrained:
        checkpoints = Path(torch.hub.get_dir()) / "checkpoints"
        with downloading(architecture, weights.url.rpartition("/")[2], str(checkpoints)):
            network = models.get_model(architecture, weights=weights)
    else:
        network = models.get_model(architecture)
    if hasattr(network, "aux_logits"):
        raise ValueError(f"{architecture} gives auxiliary outputs in training; use timm's, which has none")
    last = layers(network)[-1]
    classifier = next(name for name, module in network.named_modules() if module is last)
    chosen = Head(**head or {})
    if isinstance(last, nn.Conv2d) and not chosen.is_one_layer:
        raise ValueError(f"{architecture} classifies before it pools, so its head must have one layer")
    if pooling != "own":
        if not isinstance(getattr(network, "avgpool", None), nn.AdaptiveAvgPool2d):
            raise ValueError(f"pooling={pooling}: {architecture} has no pooling to replace; allowed: own")
        network.avgpool = nn.AdaptiveMaxPool2d(1) if pooling == "max" else nn.AdaptiveAvgPool2d(1)
    trained = known.DEFAULT.transforms()
    size = (int(trained.crop_size[0]), int(trained.crop_size[0]))
    preprocess = _preprocess(trained.mean, trained.std, size, in_channels, image_size, upsample)
    keep = bool(pretrained) and num_classes == len(weights.meta["categories"])
    images = (in_channels, *image_size)
    return Backbone(preprocess, network, [classifier], chosen, num_classes, keep, images)


def _named_weights(known: Any, name: str) -> Any:
    """Weights of torchvision by name, if they expect the same images as the newest: no name is stored."""

    def sees(weights: Any) -> Any:
        preset = weights.transforms()
        return preset.crop_size, preset.mean, preset.std

    allowed = [weights.name for weights in known if sees(weights) == sees(known.DEFAULT)]
    if name not in allowed:
        raise ValueError(f"pretrained={name}; allowed: true, false, {', '.join(allowed)}")
    return known[name]


def _preprocess(
    mean: Sequence[float],
    std: Sequence[float],
    own_size: tuple[int, int],
    in_channels: int,
    image_size: tuple[int, int],
    upsample: Upsample,
) -> Preprocess:
    if in_channels not in (1, len(mean)):
        raise ValueError(f"images have {in_channels} channels; must have 1 or {len(mean)}")
    if upsample != "own" and (isinstance(upsample, str) or upsample < 1):
        raise ValueError(f"upsample={upsample}: allowed: own, or a factor of 1 or more")
    factor = 1 if isinstance(upsample, str) else upsample
    resized = own_size if upsample == "own" and tuple(image_size) != own_size else None
    return Preprocess(mean, std, resized, factor)
