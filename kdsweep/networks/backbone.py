"""A library's network with preprocessing in front and a head for the data's classes."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdsweep.networks.parts import is_sequence

Classifier = nn.Linear | nn.Conv2d
NETWORK = "network."  # the prefix of the library's names of tensors


class Preprocess(nn.Module):
    """Maps images [B, 1 or 3, H, W] in [0, 1] to the form [B, 3, H', W'] that the backbone was trained on."""

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


class Head:
    """From features to logits: dense, ReLU and dropout for each width of `hidden`; then a dense layer.

    `batch_norm` puts a BatchNorm before each dense layer.
    """

    def __init__(self, hidden: Sequence[int] = (), dropout: float = 0.0, batch_norm: bool = False) -> None:
        self.hidden, self.dropout, self.batch_norm = hidden, dropout, batch_norm

    @property
    def is_one_layer(self) -> bool:
        return not self.hidden and not self.batch_norm

    def build(self, classifier: Classifier, classes: int, keep: bool) -> nn.Module:
        """The module that replaces a library's `classifier`, whose layer and weights it may `keep`."""
        if self.is_one_layer:
            layer = classifier if keep else _fresh(classifier, classes)
            return nn.Sequential(nn.Dropout(self.dropout), layer) if self.dropout else layer
        modules: list[nn.Module] = []
        if isinstance(classifier, nn.Linear):
            features = classifier.in_features
        else:
            features, modules = classifier.in_channels, [nn.Flatten()]
        for width in self.hidden:
            modules += [*self._norm(features), nn.Linear(features, width), nn.ReLU()]
            modules += [nn.Dropout(self.dropout)] if self.dropout else []
            features = width
        if not self.hidden and self.dropout:
            modules.append(nn.Dropout(self.dropout))
        return nn.Sequential(*modules, *self._norm(features), nn.Linear(features, classes))

    def _norm(self, features: int) -> list[nn.Module]:
        return [nn.BatchNorm1d(features)] if self.batch_norm else []


class Backbone(nn.Module):
    """Raw logits [B, num_classes]: preprocessing, then a library's network as the library runs it.

    A head replaces each of its `classifiers`, the layers that give the logits: usually one. `images` is the
    shape (channels, height, width) of its images. `original_names` maps the names of tensors in the library's
    files to those here.
    """

    def __init__(
        self,
        preprocess: Preprocess,
        network: nn.Module,
        classifiers: Sequence[str],
        head: Head,
        classes: int,
        keep: bool,
        images: tuple[int, int, int],
    ) -> None:
        super().__init__()
        for name in classifiers:
            layer = network.get_submodule(name)
            if not isinstance(layer, nn.Linear | nn.Conv2d):
                kind = "neither a dense layer nor a convolution"
                raise ValueError(f"its {name} is {kind}, so it cannot be replaced")
            network.set_submodule(name, head.build(layer, classes, keep))
        self.preprocess, self.network = preprocess, network
        self.classifiers = [NETWORK + name for name in classifiers]
        self.images, self.keeps_head = images, keep and head.is_one_layer
        self.original_names = {name.removeprefix(NETWORK): name for name in self.state_dict()}
        place = ".1" if head.is_one_layer and head.dropout else ""
        for name in classifiers:
            for kind in ("weight", "bias"):
                self.original_names[f"{name}.{kind}"] = f"{NETWORK}{name}{place}.{kind}"

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(self.preprocess(images))
        return logits

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """As usual, with this module's version: torchvision's mnasnet asks for that of the tensors."""
        tensors = OrderedDict(state_dict)
        tensors._metadata = self.state_dict()._metadata  # type: ignore[attr-defined]
        return super().load_state_dict(tensors, strict, assign)

    @property
    def head(self) -> nn.ModuleList:
        return nn.ModuleList(self.get_submodule(name) for name in self.classifiers)

    def halves(self) -> tuple[nn.Module, nn.Module] | None:
        """A module that gives the head's input, and one that turns it into logits.

        None if a trial shows that the two do not compute what the network computes.
        """
        choices: list[tuple[nn.Module, nn.Module]] = []
        if len(self.classifiers) == 1:
            choices.append((_Features(self), nn.Sequential(*self.head, nn.Flatten())))
        if hasattr(self.network, "forward_features") and hasattr(self.network, "forward_head"):
            choices.append((_Call(self, "forward_features"), _Call(self, "forward_head")))
        return next((halves for halves in choices if self._same(nn.Sequential(*halves))), None)

    def in_sequence(self) -> nn.Sequential | None:
        """The network's parts, if a trial shows that it only runs them one after the other."""
        head = self.head
        body = [part for part in _spliced(self.network) if part not in set(head)]
        parts = nn.Sequential(self.preprocess, *body, nn.Flatten(), *head, nn.Flatten())
        return parts if len(head) == 1 and self._same(parts) else None

    @torch.no_grad()
    def _same(self, other: nn.Module) -> bool:
        """Whether another module gives exactly the logits of this one, in eval mode."""
        modes = {module: module.training for module in self.modules()}
        device = next(self.parameters()).device
        images = torch.rand(2, *self.images, generator=torch.Generator().manual_seed(0)).to(device)
        self.eval()
        try:
            return torch.equal(other(images), self(images))
        except Exception:  # parts in a wrong order fail in any way
            return False
        finally:
            for module, training in modes.items():
                module.training = training


class _Features(nn.Module):
    """The input of a backbone's only classifier."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> Tensor:
        seen: list[Tensor] = []
        (head,) = self.backbone.head
        handle = head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
        try:
            self.backbone(images)
        finally:
            handle.remove()
        (features,) = seen
        return features


class _Call(nn.Module):
    """A half of a network of timm: `forward_features` of images, or `forward_head` of what that gives."""

    def __init__(self, backbone: Backbone, method: str) -> None:
        super().__init__()
        self.backbone, self.method = backbone, method

    def forward(self, inputs: Tensor) -> Tensor:
        if self.method == "forward_features":
            inputs = self.backbone.preprocess(inputs)
        outputs = getattr(self.backbone.network, self.method)(inputs)
        if not isinstance(outputs, Tensor):
            raise TypeError("the features are several tensors, which cannot be stored")
        return outputs


def _fresh(classifier: Classifier, classes: int) -> Classifier:
    """A classifier for other classes, initialised as `reset_classifier` does."""
    bias = classifier.bias is not None
    if isinstance(classifier, nn.Linear):
        return nn.Linear(classifier.in_features, classes, bias)
    return nn.Conv2d(classifier.in_channels, classes, classifier.kernel_size, bias=bias)  # type: ignore[arg-type]


def _spliced(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        if is_sequence(child):
            yield from _spliced(child)
        else:
            yield child
