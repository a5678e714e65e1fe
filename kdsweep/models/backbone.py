"""Networks of timm and torchvision with a head of ours: features of ImageNet for other classes."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdsweep.models.anatomy import is_sequence, layers

Upsample = Literal["own"] | int
PROBED = 64  # pixels, a side: small, since any size shows how a network is put together


class Preprocess(nn.Module):
    """Images [B, 1 or 3, H, W] of pixels in [0, 1] as the backbone was trained to see them [B, 3, H', W']."""

    mean: Tensor
    std: Tensor

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], size: tuple[int, int] | None, factor: int
    ) -> None:
        super().__init__()
        self.size, self.factor = size, factor
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        if self.size:
            images = F.interpolate(images, self.size, mode="bilinear", antialias=True)
        elif self.factor > 1:
            images = F.interpolate(images, scale_factor=self.factor, mode="nearest")
        return (images - self.mean) / self.std  # a single channel becomes three here


class Backbone(nn.Sequential):
    """Raw logits [B, num_classes]: preprocessing, the parts of a library's network, and a head.

    `original_names` maps the names of the tensors in the library's own files to those here; `classifier` is
    the library's name of the dense layer that the head stands for.
    """

    head: nn.Sequential

    def __init__(
        self,
        preprocess: Preprocess,
        body: nn.Module,
        own_size: tuple[int, int],
        head: "Head",
        classes: int,
        classifier: str,
    ) -> None:
        names = _names(body)
        parts, features = _unrolled(body, own_size)
        super().__init__(preprocess, *parts)
        self.add_module("head", head.build(features, classes))
        own = _names(self)
        self.original_names = {name: own[tensor] for tensor, name in names.items() if tensor in own}
        if head.is_one_layer:
            for kind in ("weight", "bias"):
                self.original_names[f"{classifier}.{kind}"] = f"head.{len(self.head) - 1}.{kind}"


class Head:
    """From features to logits: for each width of `hidden`, dense, ReLU and dropout; then a dense layer.

    `batch_norm` stands before every dense layer.
    """

    def __init__(self, hidden: Sequence[int] = (), dropout: float = 0.0, batch_norm: bool = False) -> None:
        self.hidden, self.dropout, self.batch_norm = hidden, dropout, batch_norm

    @property
    def is_one_layer(self) -> bool:
        return not self.hidden and not self.batch_norm

    def build(self, features: int, classes: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for width in self.hidden:
            layers += [*self._norm(features), nn.Linear(features, width), nn.ReLU()]
            layers += [nn.Dropout(self.dropout)] if self.dropout else []
            features = width
        if not self.hidden and self.dropout:
            layers.append(nn.Dropout(self.dropout))
        return nn.Sequential(*layers, *self._norm(features), nn.Linear(features, classes))

    def _norm(self, features: int) -> list[nn.Module]:
        return [nn.BatchNorm1d(features)] if self.batch_norm else []


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
    import timm as library

    options: dict[str, Any] = {} if pooling == "own" else {"global_pool": pooling}
    body = library.create_model(architecture, pretrained=pretrained, num_classes=0, **options)
    config: Any = body.pretrained_cfg
    size = (int(config["input_size"][1]), int(config["input_size"][2]))
    preprocess = _preprocess(config["mean"], config["std"], size, in_channels, image_size, upsample)
    return Backbone(preprocess, body, size, Head(**head or {}), num_classes, str(config["classifier"]))


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

    `pretrained` may name weights of torchvision's, such as IMAGENET1K_V1; true takes its newest.
    """
    from torchvision import models

    known = models.get_model_weights(architecture)
    weights = _named_weights(known, pretrained) if isinstance(pretrained, str) else known.DEFAULT
    body = models.get_model(architecture, weights=weights if pretrained else None)
    if hasattr(body, "aux_logits"):
        raise ValueError(f"{architecture} gives auxiliary outputs in training; timm has one without")
    classifier = _last_dense(body, architecture)
    body.set_submodule(classifier, nn.Identity())
    if pooling != "own":
        if not isinstance(getattr(body, "avgpool", None), nn.AdaptiveAvgPool2d):
            raise ValueError(f"pooling={pooling}: {architecture} has no pooling to change; allowed: own")
        body.avgpool = nn.AdaptiveMaxPool2d(1) if pooling == "max" else nn.AdaptiveAvgPool2d(1)
    trained = known.DEFAULT.transforms()
    size = (int(trained.crop_size[0]), int(trained.crop_size[0]))
    preprocess = _preprocess(trained.mean, trained.std, size, in_channels, image_size, upsample)
    return Backbone(preprocess, body, size, Head(**head or {}), num_classes, classifier)


def _named_weights(known: Any, name: str) -> Any:
    """Weights of torchvision by name, if they see images as its newest do: their name is not stored."""

    def sees(weights: Any) -> Any:
        preset = weights.transforms()
        return preset.crop_size, preset.mean, preset.std

    allowed = [weights.name for weights in known if sees(weights) == sees(known.DEFAULT)]
    if name not in allowed:
        raise ValueError(f"pretrained={name}; allowed: true, false, {', '.join(allowed)}")
    return known[name]


def _last_dense(network: nn.Module, architecture: str) -> str:
    """The name of the layer that gives a network's logits, its last one with weights."""
    last = layers(network)[-1]
    name: str = next(name for name, module in network.named_modules() if module is last)
    if not isinstance(last, nn.Linear):
        raise ValueError(f"{architecture} does not end in a dense layer, so its head cannot be replaced")
    return name


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


def _unrolled(body: nn.Module, own_size: tuple[int, int]) -> tuple[list[nn.Module], int]:
    """The parts of `body` if it runs them in sequence, else `body` itself; and how many features it gives.

    Parts let a frozen front be run once. Whether they do the same is tried: their order alone says little.
    """
    training = body.training
    body.eval()
    parts = [*_spliced(body), nn.Flatten()]
    with torch.no_grad():
        try:
            images = _noise((PROBED, PROBED))
            expected = body(images)
        except Exception:  # such as a transformer's, which takes one size only
            images = _noise(own_size)
            expected = body(images)
        try:
            same = torch.equal(nn.Sequential(*parts)(images), expected.flatten(1))
        except Exception:  # the children are not a sequence
            same = False
    body.train(training)
    return parts if same else [body, nn.Flatten()], expected.flatten(1).shape[1]


def _spliced(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        if is_sequence(child):
            yield from _spliced(child)
        else:
            yield child


def _noise(size: tuple[int, int]) -> Tensor:
    return torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))


def _names(network: nn.Module) -> dict[int, str]:
    """Names of a network's tensors by identity."""
    return {id(tensor): name for name, tensor in network.state_dict(keep_vars=True).items()}
