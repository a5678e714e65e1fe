"""A plain network, described layer by layer in a config."""

from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

Shape = tuple[int, ...]  # of one image: (channels, height, width), or (features,) once flat

KINDS: dict[str, dict[str, Any]] = {  # the kinds of layers, their options and the options' defaults
    "conv": {"kernel": 3, "stride": 1, "padding": "same"},
    "relu": {},
    "leaky_relu": {},
    "maxpool": {"stride": None, "padding": "valid"},
    "dropout": {},
    "batch_norm": {},
    "flatten": {},
    "global_avgpool": {},
    "global_maxpool": {},
    "dense": {},
}
EXAMPLES = {"conv": 32, "leaky_relu": 0.2, "maxpool": 2, "dropout": 0.5, "dense": 128}  # these need a number


class Layers(nn.Sequential):
    """Raw logits [B, num_classes] from images [B, in_channels, *image_size] through `layers`, in order.

    - {conv: 32, kernel: 3, stride: 1, padding: same}   or padding: valid
    - relu
    - {leaky_relu: 0.2}                                 the slope below zero
    - {maxpool: 2, stride: 2, padding: valid}           or padding: same; stride: the pool's size by default
    - {dropout: 0.5}
    - batch_norm
    - flatten                                           or global_avgpool, global_maxpool
    - {dense: 128}

    A dense layer to the classes follows the last. `same` and `valid` pad as Keras does.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        image_size: tuple[int, int],
        layers: Sequence[Mapping[str, Any] | str],
    ) -> None:
        shape: Shape = (in_channels, *image_size)
        modules: list[nn.Module] = []
        for number, spec in enumerate(layers, 1):
            try:
                module, shape = _layer(*_read(spec), shape)
            except ValueError as error:
                raise ValueError(f"layer {number}, {spec}: {error}") from None
            modules.append(module)
        if len(shape) != 1:
            raise ValueError(
                f"after the last layer features are still {_size(shape)}: "
                "add flatten, global_avgpool or global_maxpool"
            )
        super().__init__(*modules, nn.Linear(shape[0], num_classes))


class SameConv2d(nn.Conv2d):
    """A convolution [B, C, H, W] → [B, C', ⌈H/stride⌉, ⌈W/stride⌉], padded with zeros as Keras does."""

    def forward(self, input: Tensor) -> Tensor:
        before, after = zip(*map(pads, input.shape[-2:], self.kernel_size, self.stride), strict=True)
        if before == after:  # the convolution can pad without a copy of the images
            return F.conv2d(input, self.weight, self.bias, self.stride, before)
        return super().forward(F.pad(input, (before[1], after[1], before[0], after[0])))


class SameMaxPool2d(nn.Module):
    """Max pooling [B, C, H, W] → [B, C, ⌈H/stride⌉, ⌈W/stride⌉], padded as Keras does: padding never wins."""

    def __init__(self, size: int, stride: int) -> None:
        super().__init__()
        self.size, self.stride = size, stride

    def forward(self, images: Tensor) -> Tensor:
        rows, columns = (pads(length, self.size, self.stride) for length in images.shape[-2:])
        if any(rows + columns):
            images = F.pad(images, (*columns, *rows), value=-inf)
        return F.max_pool2d(images, self.size, self.stride)


def pads(length: int, window: int, stride: int) -> tuple[int, int]:
    """Rows above and below (or columns left and right) that Keras' `same` adds; an odd one goes below."""
    total = max((_out(length, window, stride, "same") - 1) * stride + window - length, 0)
    return total // 2, total - total // 2


def _read(spec: Mapping[str, Any] | str) -> tuple[str, Any, dict[str, Any]]:
    """A layer's kind, its number and its options."""
    given = dict(spec) if isinstance(spec, Mapping) else {str(spec): None}
    kind = next((name for name in given if name in KINDS), None)
    if kind is None:
        raise ValueError(f"unknown layer; allowed: {', '.join(KINDS)}")
    number = given.pop(kind)
    if kind not in EXAMPLES and number is not None:
        raise ValueError(f"{kind} takes no number")
    if kind in EXAMPLES and (isinstance(number, bool) or not isinstance(number, int | float)):
        raise ValueError(f"{kind} needs a number, such as {kind}: {EXAMPLES[kind]}")
    for option in given:
        if option not in KINDS[kind]:
            raise ValueError(f"unknown option {option}; allowed: {', '.join(KINDS[kind]) or 'none'}")
    return kind, number, KINDS[kind] | given


def _layer(kind: str, number: Any, options: dict[str, Any], shape: Shape) -> tuple[nn.Module, Shape]:
    """The layer, and the shape of its output for features of `shape`."""
    if kind == "relu":
        return nn.ReLU(), shape
    if kind == "leaky_relu":
        return nn.LeakyReLU(number), shape
    if kind == "dropout":
        return nn.Dropout(number), shape
    if kind == "batch_norm":
        return (nn.BatchNorm2d if len(shape) == 3 else nn.BatchNorm1d)(shape[0]), shape
    if kind == "dense":
        if len(shape) != 1:
            raise ValueError(
                f"features are still {_size(shape)}: put flatten, global_avgpool or global_maxpool before it"
            )
        return nn.Linear(shape[0], _count(kind, number)), (number,)
    if len(shape) != 3:
        raise ValueError(f"works on images, but features are flat here: put {kind} before they become flat")
    if kind == "conv":
        return _conv(_count(kind, number), shape, **options)
    if kind == "maxpool":
        return _maxpool(_count(kind, number), shape, **options)
    channels, height, width = shape
    if kind == "flatten":
        return nn.Flatten(), (channels * height * width,)
    pool = nn.AdaptiveAvgPool2d(1) if kind == "global_avgpool" else nn.AdaptiveMaxPool2d(1)
    return nn.Sequential(pool, nn.Flatten()), (channels,)


def _conv(channels: int, shape: Shape, kernel: int, stride: int, padding: str) -> tuple[nn.Module, Shape]:
    size = _windows(shape, kernel, stride, padding)
    conv = SameConv2d if padding == "same" else nn.Conv2d
    return conv(shape[0], channels, kernel, stride), (channels, *size)


def _maxpool(pool: int, shape: Shape, stride: int | None, padding: str) -> tuple[nn.Module, Shape]:
    stride = pool if stride is None else stride
    size = _windows(shape, pool, stride, padding)
    return (SameMaxPool2d if padding == "same" else nn.MaxPool2d)(pool, stride), (shape[0], *size)


def _windows(shape: Shape, window: int, stride: int, padding: str) -> list[int]:
    """The height and width of features of `shape` after a window."""
    _count("kernel", window)
    _count("stride", stride)
    if padding not in ("same", "valid"):
        raise ValueError(f"padding={padding}; allowed: same, valid")
    size = [_out(length, window, stride, padding) for length in shape[1:]]
    if min(size) < 1:
        raise ValueError(
            f"its {window}×{window} window does not fit, features are {_size(shape)} here: "
            "allowed are larger images, fewer or smaller layers before it, or padding: same"
        )
    return size


def _out(length: int, window: int, stride: int, padding: str) -> int:
    return -(-length // stride) if padding == "same" else (length - window) // stride + 1


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name}={value}; allowed: whole numbers of 1 or more")
    return value


def _size(shape: Shape) -> str:
    return "×".join(map(str, shape[1:] + shape[:1]))  # as people write images, channels last
