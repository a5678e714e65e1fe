"""A student that ends in its teacher's head (SimKD: Chen et al. 2022, arXiv:2203.14001)."""

import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdsweep.errors import ConfigError
from kdsweep.methods import EMBEDDING, MAP
from kdsweep.networks.build import build, build_initial
from kdsweep.networks.taps import Anatomy, Tapped, evaluating, layout_of, plain

_passing = threading.local()  # the map of each thread: servers predict in several


class TeachersHead(nn.Module):
    """Logits [B, num_classes] from the student's last map, a projector and the head of the teacher.

    The projector is three convolutions, 1×1, 3×3 and 1×1, each with batch normalization and a ReLU, that end
    in as many channels C as the teacher's last map; the inner ones have C / `factor`. It takes the student's
    map averaged to the teacher's size, if that is smaller, and its mean over pixels is what the head takes.
    The student's own head is left out, and the teacher's does not learn: `take_head` copies it.

    Raises ConfigError if the teacher's head takes something else than the mean of its last map, or if layers
    of the student come after its last map.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        image_size: tuple[int, int],
        student: Mapping[str, Any],
        teacher: Mapping[str, Any],
        factor: int = 2,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        shape = (in_channels, *image_size)
        images = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
        if pretrained:
            self.student = build_initial(student, num_classes, shape, None)
        else:
            self.student = build(student, num_classes, shape)
        self.layout = layout_of(self.student)
        width = _end_at_map(self.student, images)
        taught_by = build(teacher, num_classes, shape)
        (channels, *size), self.head_name = _under_head(taught_by, images)
        self.head = taught_by.get_submodule(self.head_name).requires_grad_(False)
        self.size = tuple(size)
        if not 1 <= factor <= channels:
            raise ConfigError(
                f"method.network.factor={factor}: must be from 1 to {channels}, the teacher's channels"
            )
        inner = channels // factor
        self.projector = nn.Sequential(
            *_convolution(width, inner, 1), *_convolution(inner, inner, 3), *_convolution(inner, channels, 1)
        )

    def forward(self, images: Tensor) -> Tensor:
        self.student(images)
        features = plain(_passing.map, MAP, self.layout)
        _passing.map = None  # it is as large as the batch
        height, width = (min(sizes) for sizes in zip(features.shape[2:], self.size, strict=True))
        if features.shape[2:] != (height, width):
            features = F.adaptive_avg_pool2d(features, (height, width))
        logits: Tensor = self.head(self.projector(features).mean((2, 3)))
        return logits

    def train(self, mode: bool = True) -> "TeachersHead":
        super().train(mode)
        self.head.eval()
        return self

    def take_head(self, teacher: nn.Module) -> None:
        """Copy the head of the trained teacher."""
        self.head.load_state_dict(teacher.get_submodule(self.head_name).state_dict())

    def begin_from(self, student: nn.Module) -> None:
        """Copy the weights of a student's network, without its head."""
        given = student.state_dict()
        self.student.load_state_dict({name: given[name] for name in self.student.state_dict()})


def _end_at_map(student: nn.Module, images: Tensor) -> int:
    """Keep the student's last map as it passes, and leave out the head; the map's channels.

    Raises ConfigError if other layers with weights would come after the map, and learn nothing.
    """
    anatomy, tapped = _tapped(student, "student", images)
    (place,), (head,) = tapped.places[MAP], tapped.places[EMBEDDING]
    names = list(anatomy.shapes)
    later = [name for name in names[names.index(place.module) + 1 :] if not _within(name, head.module)]
    for name in later:
        layer = student.get_submodule(name)
        if any(True for _ in layer.parameters(recurse=False)):
            raise ConfigError(
                f"method.network: the student's {name} comes after its last map, of {place.module}; "
                "allowed: networks whose head takes the mean of their last map, such as resnet"
            )
    with evaluating(student):
        width = tapped(images).taps[MAP][0].shape[1]
    student.get_submodule(place.module).register_forward_hook(_keep)
    student.set_submodule(head.module, nn.Identity())
    return width


def _under_head(teacher: nn.Module, images: Tensor) -> tuple[tuple[int, ...], str]:
    """The shape (channels, height, width) of the teacher's last map, and the name of its head.

    Raises ConfigError unless the head takes the map's mean over pixels.
    """
    _, tapped = _tapped(teacher, "teacher", images)
    (head,) = tapped.places[EMBEDDING]
    with evaluating(teacher):
        outputs = tapped(images)
        (features,) = outputs.taps[MAP]
        with suppress(RuntimeError):  # a head for other sizes
            mean = teacher.get_submodule(head.module)(features.mean((2, 3)))
            if mean.shape == outputs.logits.shape and torch.allclose(mean, outputs.logits, atol=1e-5):
                return tuple(features.shape[1:]), head.module
    raise ConfigError(
        "method.network: the teacher's head does not take the mean of its last map, which the student is to "
        "give it; allowed: networks whose head does, such as resnet, wrn, timm's or torchvision's resnets"
    )


def _tapped(network: nn.Module, role: str, images: Tensor) -> tuple[Anatomy, Tapped]:
    try:
        with evaluating(network):
            return Anatomy(network, images), Tapped(network, [MAP, EMBEDDING], images)
    except ConfigError as error:
        raise ConfigError(f"method.network: the {role} {error}") from error


def _within(name: str, module: str) -> bool:
    return f"{name}.".startswith(f"{module}.") or f"{module}.".startswith(f"{name}.")


def _keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
    _passing.map = output


def _convolution(inputs: int, outputs: int, kernel: int) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]
