"""Taps: named places in any network, whose outputs the terms of a loss look at.

`embedding` is what the head takes; `map` the last feature map before it is pooled; `stage1`, `stage2`, … the
last output of each stage, and `stages` all of them; `stage2.pre` what that stage's last activation takes. Any
other name is the path of a module. Networks of the zoo name their stages, timm's declare them; those of other
networks are the last outputs of each resolution.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from copy import copy
from dataclasses import dataclass
from itertools import takewhile
from math import isqrt
from typing import Any, Self

import torch
from torch import Tensor, nn

from kdsweep.errors import ConfigError
from kdsweep.methods import EMBEDDING, MAP, PRE, STAGES
from kdsweep.methods.term import Outputs
from kdsweep.networks.backbone import NETWORK, Backbone
from kdsweep.networks.mapped import is_headless
from kdsweep.networks.parts import head_of, is_sequence, layers

STAGE = re.compile(r"stage(\d+)")
PREPROCESS = "preprocess"  # of a Backbone: images, no features
ACTIVATIONS = tuple(
    kind
    for kind in vars(nn.modules.activation).values()
    if isinstance(kind, type) and kind.__module__ == nn.modules.activation.__name__
)


@dataclass(frozen=True)
class Place:
    """What the module of a name gives or, of an `embedding` or `.pre`, takes."""

    module: str
    taken: bool = False


class Tapped:
    """A network whose taps are known; called with images, it gives its outputs there too."""

    def __init__(self, network: nn.Module, taps: Sequence[str] = (), images: Tensor | None = None) -> None:
        """Find the taps by running the network on `images`. Raises ConfigError for one that it lacks."""
        self.network = network
        self.places = {} if images is None or not taps else Anatomy(network, images).places(taps)
        head = self.places.get(EMBEDDING)
        self.head = network.get_submodule(head[0].module) if head else None

    def of(self, network: nn.Module) -> Self:
        """The same taps of a copy of the network."""
        other = copy(self)
        other.network = network
        return other

    def __call__(self, images: Tensor) -> Outputs:
        """Raises ConfigError if what was at a tap was overwritten in place by a later module."""
        with _watched(self.network, [place for places in self.places.values() for place in places]) as seen:
            logits = self.network(images).float()
        for place, (value, version) in seen.items():
            if value._version != version:
                raise ConfigError(_overwritten(self.network, place, images))
        layout = layout_of(self.network)
        taps = {
            name: tuple(plain(seen[place][0], name, layout) for place in places)
            for name, places in self.places.items()
        }
        return Outputs(logits, taps, self.head)


class Anatomy:
    """The modules of a network in the order in which they run, with the shapes of what they give."""

    def __init__(self, network: nn.Module, images: Tensor) -> None:
        self.network = network
        self.shapes: dict[str, tuple[int, ...]] = {}
        with ExitStack() as stack:
            stack.enter_context(evaluating(network))
            for name, module in network.named_modules():
                if name:
                    stack.enter_context(_hook(module.register_forward_hook(self._note(name))))
            network(images)
        self.stages = self._stages()

    def places(self, taps: Sequence[str]) -> dict[str, list[Place]]:
        """Where each tap is. Raises ConfigError for one that the network lacks."""
        return {tap: self._places(tap) for tap in taps}

    def _note(self, name: str) -> Callable[..., None]:
        def note(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                self.shapes.pop(name, None)  # of a module that runs twice the last time counts
                self.shapes[name] = tuple(output.shape)

        return note

    def _places(self, tap: str) -> list[Place]:
        modules = dict(self.network.named_modules())
        if tap.removesuffix(PRE) == STAGES and self.stages:
            suffix = tap.removeprefix(STAGES)
            return [
                place
                for number in range(len(self.stages))
                for place in self._places(f"stage{number + 1}{suffix}")
            ]
        if tap == EMBEDDING and is_headless(self.network):
            return [Place("")]
        if tap == EMBEDDING and (head := self._head()):
            return [Place(head, taken=True)]
        if tap == MAP and (maps := self._maps()):
            return [Place(maps[-1])]
        if (found := STAGE.fullmatch(tap.removesuffix(PRE))) and 0 < int(found[1]) <= len(self.stages):
            stage = self.stages[int(found[1]) - 1]
            if not tap.endswith(PRE):
                return [Place(stage)]
            if activation := self._last_activation(stage, modules):
                return [Place(activation, taken=True)]
        elif tap in self.shapes:
            return [Place(tap)]
        raise ConfigError(f"has no tap {tap}; it has {', '.join(self._known())}, or a module's path")

    def _known(self) -> Iterator[str]:
        if self._head() or is_headless(self.network):
            yield EMBEDDING
        if self._maps():
            yield MAP
        yield from (f"stage{number}" for number in range(1, len(self.stages) + 1))
        if self.stages:
            yield STAGES

    def _head(self) -> str | None:
        if isinstance(self.network, Backbone):
            return self.network.classifiers[0] if len(self.network.classifiers) == 1 else None
        if is_headless(self.network):
            return None
        head = head_of(self.network) if layers(self.network) else None
        return next((name for name, module in self.network.named_modules() if module is head and name), None)

    def _maps(self) -> list[str]:
        """The modules that give feature maps, or tokens of a transformer, before they are pooled."""
        before = self._before_head()
        tokens = [name for name in before if len(self.shapes[name]) == 3 and self.shapes[name][1] > 1]
        maps = [name for name in before if len(self.shapes[name]) == 4]
        wide = [name for name in maps if max(self.shapes[name][2:]) > 1]
        # the only map of a transformer is that of the patches, from which its tokens are made
        return (
            tokens
            if tokens and isinstance(self.network, Backbone) and len(wide) < len(tokens)
            else wide or maps
        )

    def _before_head(self) -> list[str]:
        names, head = list(self.shapes), self._head()
        body = names[: names.index(head)] if head in names else names
        return [name for name in body if name != PREPROCESS]

    def _stages(self) -> list[str]:
        named = sorted(
            (name for name in self.shapes if STAGE.fullmatch(name)), key=lambda name: int(name[5:])
        )
        if named:
            return named
        if isinstance(self.network, Backbone):
            declared: Any = getattr(self.network.network, "feature_info", None) or ()
            names = [NETWORK + each["module"] for each in declared if isinstance(each, Mapping)]
            if names and all(name in self.shapes for name in names):
                return names
        maps = self._maps()
        trunk = self._last_of_each_size(name for name in maps if self._is_on_the_trunk(name))
        return trunk if len(trunk) > 1 else self._last_of_each_size(maps)

    def _last_of_each_size(self, maps: Iterable[str]) -> list[str]:
        last: dict[tuple[int, ...], str] = {}
        for name in maps:
            size = self.shapes[name][2:] if len(self.shapes[name]) == 4 else self.shapes[name][1:2]
            last[size] = name
        return list(last.values())

    def _is_on_the_trunk(self, name: str) -> bool:
        """Whether only sequences are around it: a block's own layers may widen what it then narrows."""
        parts = name.removeprefix(NETWORK).split(".")
        around = [NETWORK * name.startswith(NETWORK) + ".".join(parts[:end]) for end in range(1, len(parts))]
        return all(is_sequence(self.network.get_submodule(above)) for above in around)

    def _last_activation(self, stage: str, modules: Mapping[str, nn.Module]) -> str | None:
        """The activation that gives what the stage gives; of a stage that ends before its activation, that
        which takes it. Only layers that leave channels and pixels apart may be in between."""
        end = list(self.shapes).index(stage) + 1
        layers = {name: place for place, name in enumerate(self.shapes) if not any(modules[name].children())}
        inside = [name for name in layers if f"{name}.".startswith(f"{stage}.")]
        after = [name for name, place in layers.items() if place >= end]
        for nearest in (reversed(inside), after):
            apart = takewhile(lambda name: not _mixes(modules[name]), nearest)
            found = next((name for name in apart if isinstance(modules[name], ACTIVATIONS)), None)
            if found and self.shapes[found] == self.shapes[stage]:
                return found
        return None


def _mixes(layer: nn.Module) -> bool:
    """Whether a layer computes numbers from several channels or pixels, as a convolution does."""
    return any(weights.dim() > 1 for weights in layer.parameters(recurse=False))


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Eval mode without gradients, and each module's own mode again."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def _watched(network: nn.Module, places: Sequence[Place]) -> Iterator[dict[Place, tuple[Tensor, int]]]:
    """What passes at the places while the network runs, and its version: in-place changes count it up."""
    seen: dict[Place, tuple[Tensor, int]] = {}

    def keep(place: Place) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], *output: Any) -> None:
            value = inputs[0] if place.taken else output[0]
            seen[place] = (value, value._version)

        return hook

    with ExitStack() as stack:
        for place in dict.fromkeys(places):
            module = network.get_submodule(place.module)
            register = module.register_forward_pre_hook if place.taken else module.register_forward_hook
            stack.enter_context(_hook(register(keep(place))))
        yield seen


@contextmanager
def _hook(handle: Any) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


def _overwritten(network: nn.Module, place: Place, images: Tensor) -> str:
    """Which module overwrote what was at a place: the first after which its version is another."""
    culprit: list[str] = []

    with ExitStack() as stack, torch.no_grad():
        seen = stack.enter_context(_watched(network, [place]))

        def look(name: str) -> Callable[..., None]:
            def hook(*given: Any) -> None:
                if place in seen and seen[place][0]._version != seen[place][1] and not culprit:
                    culprit.append(name)

            return hook

        for name, module in network.named_modules():
            stack.enter_context(_hook(module.register_forward_hook(look(name))))
        network(images)
    what = f"what {place.module} takes" if place.taken else f"the output of {place.module}"
    by = culprit[0] if culprit and culprit[0] else "a later operation"
    return f"has {what} overwritten in place by {by}; take another tap, or make that one not in place"


def layout_of(network: nn.Module) -> str:
    """The order of the dimensions of a network's maps, such as timm's NHWC, where it declares one."""
    return str(getattr(getattr(network, NETWORK.rstrip("."), None), "output_fmt", None))


def plain(value: Tensor, name: str, layout: str) -> Tensor:
    """What is at a tap, float32: an embedding [B, D], else a map [B, C, H, W].

    Tokens are laid out as a square, without their prefix.
    """
    value = value.float()
    if name == EMBEDDING:
        return value.flatten(2).mean(2) if value.dim() > 2 else value
    if value.dim() == 3:
        side = isqrt(value.shape[1])
        patches = value[:, value.shape[1] - side**2 :]
        return patches.transpose(1, 2).reshape(len(value), -1, side, side)
    return value.permute(0, 3, 1, 2) if value.dim() == 4 and layout == "NHWC" else value
