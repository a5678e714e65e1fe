"""The recipes' networks: exact sizes, Keras' padding, any image, and messages for what does not fit."""

import numpy as np
import pytest
import torch
from helpers import CONF, model_of
from hydra import compose, initialize_config_dir
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from torch import nn

from kdsweep.errors import ConfigError
from kdsweep.networks.build import build
from kdsweep.networks.zoo.layers import Layers, SameConv2d, SameMaxPool2d
from kdsweep.networks.zoo.mobilenet_v2 import InvertedResidual, MobileNetV2
from kdsweep.networks.zoo.resnet import BasicBlock, SmallResNet
from kdsweep.networks.zoo.resnet18 import ResNet18
from kdsweep.networks.zoo.resnet50 import Bottleneck, ResNet50
from kdsweep.networks.zoo.shufflenet_v1 import Shuffle, ShuffleNetV1
from kdsweep.networks.zoo.shufflenet_v2 import ShuffleNetV2, SplitBlock
from kdsweep.networks.zoo.vgg import VGG
from kdsweep.networks.zoo.wrn import WideBlock, WideResNet

LEAKY = {"leaky_relu": 0.2}
POOL = {"maxpool": 2, "stride": 1, "padding": "same"}


def on_meta(network, *arguments, **options) -> nn.Module:
    """A network without memory for its weights, of which sizes and shapes can be asked."""
    with torch.device("meta"):
        return network(*arguments, **options)


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def shape_of(network: nn.Module, channels: int, height: int, width: int) -> tuple[int, ...]:
    images = torch.empty(2, channels, height, width, device="meta")
    return tuple(network(images.contiguous(memory_format=torch.channels_last)).shape)


def before_pooling(network: nn.Module) -> nn.Module:
    """All but the global pooling and the dense layer; a part of a network cannot be of its class."""
    return nn.Sequential(*list(network)[:-3])


def count(layers, shape=(3, 32, 32), classes=10) -> int:
    network = on_meta(Layers, classes, shape[0], shape[1:], layers)
    assert shape_of(network, *shape) == (2, classes)
    return parameters(network)


# --- parameters, exact by recipe -----------------------------------------------------------------------


def test_mnist_assistant():
    wide = [{"dense": 784}, "relu"]
    layers = [{"conv": 32}, "relu", POOL, "flatten", *wide, *wide, {"dropout": 0.5}]
    assert count(layers, (1, 28, 28)) == 20_293_386


def test_cats_dogs_networks():
    teacher, student = model_of("teacher/cats_dogs_cnn.yaml"), model_of("student/cats_dogs_cnn.yaml")
    assert count(teacher["layers"], (3, 224, 224), 2) == 9_568_898
    assert count(student["layers"], (3, 224, 224), 2) == 789_442


def test_cifar10_networks():
    first = [{"conv": 256, "stride": 2}, LEAKY, POOL, {"conv": 512, "stride": 2}, "flatten"]
    third = model_of("teacher/cifar10_cnn.yaml")["layers"]
    second = [layer for layer in third if "dropout" not in layer]
    assert len(second) == len(third) - 4
    assert count(first) == 1_515_018
    assert count(second) == count(third) == 2_827_402
    assert count(model_of("student/cifar10_cnn.yaml")["layers"]) == 43_098


@pytest.mark.parametrize(
    ("classes", "depth", "width", "expected"),
    [
        (10, 28, 1, 369_498),
        (10, 28, 2, 1_467_610),
        (10, 16, 4, 2_748_890),
        (10, 28, 10, 36_479_194),
        (100, 40, 2, 2_255_156),
        (100, 16, 2, 703_284),
    ],
)
def test_wide_resnets(classes, depth, width, expected):
    network = on_meta(WideResNet, classes, 3, (32, 32), depth, width)
    assert parameters(network) == expected
    assert shape_of(before_pooling(network), 3, 32, 32) == (2, 64 * width, 8, 8)


@pytest.mark.parametrize(
    ("depth", "width", "expected"),
    [
        (20, 1, 278_324),
        (32, 1, 472_756),
        (56, 1, 861_620),
        (110, 1, 1_736_564),
        (8, 4, 1_233_540),
        (32, 4, 7_433_860),
    ],
)
def test_small_resnets(depth, width, expected):
    network = on_meta(SmallResNet, 100, 3, (32, 32), depth, width)
    assert parameters(network) == expected
    assert shape_of(before_pooling(network), 3, 32, 32) == (2, 64 * width, 8, 8)


@pytest.mark.parametrize(("depth", "expected"), [(8, 3_965_028), (13, 9_462_180)])
@pytest.mark.parametrize(("size", "left"), [(32, 4), (64, 4), (96, 6)])
def test_vggs(depth, expected, size, left):
    network = on_meta(VGG, 100, 3, (size, size), depth)
    assert parameters(network) == expected
    assert shape_of(before_pooling(network), 3, size, size) == (2, 512, left, left)


@pytest.mark.parametrize(
    ("network", "options", "expected", "last"),
    [
        (ShuffleNetV1, {}, 949_258, (960, 4)),
        (ShuffleNetV2, {"width": 0.5}, 443_716, (1024, 4)),
        (ShuffleNetV2, {}, 1_355_528, (1024, 4)),
        (ShuffleNetV2, {"width": 1.5}, 2_580_548, (1024, 4)),
        (MobileNetV2, {}, 812_836, (1280, 2)),
        (MobileNetV2, {"width": 1.0}, 2_353_060, (1280, 2)),
        (MobileNetV2, {"width": 1.4}, 4_470_904, (1792, 2)),
        (ResNet50, {}, 23_705_252, (2048, 4)),
    ],
)
def test_students_and_teachers_of_other_families(network, options, expected, last):
    """As large as RepDistiller's networks of their names."""
    built = on_meta(network, 100, 3, (32, 32), **options)
    channels, size = last
    assert parameters(built) == expected
    assert shape_of(before_pooling(built), 3, 32, 32) == (2, channels, size, size)


def test_resnet18_is_as_large_as_the_ordinary_one():
    from torchvision.models import resnet18

    network = on_meta(ResNet18, 10, 3, (32, 32), **options_of("student/resnet18.yaml"))
    assert parameters(network) == parameters(on_meta(resnet18, num_classes=10)) == 11_181_642
    assert shape_of(before_pooling(network), 3, 32, 32) == (2, 512, 8, 8), "images were made 256×256"


def options_of(file: str) -> dict:
    return {key: value for key, value in model_of(file).items() if key != "_target_"}


# --- configs -------------------------------------------------------------------------------------------


def composed(*overrides: str):
    with initialize_config_dir(str(CONF)):
        return compose("config", overrides=list(overrides))


@pytest.mark.parametrize(
    ("group", "options", "name", "expected"),
    [
        ("wrn", ["depth=16", "width=2"], "wrn-16-2", 703_284),
        ("resnet", ["depth=8", "width=4"], "resnet8x4", 1_233_540),
        ("vgg", ["depth=13"], "vgg13", 9_462_180),
        ("shufflenet_v1", [], "shufflenet_v1", 949_258),
        ("shufflenet_v2", ["width=1.5"], "shufflenet_v2x1.5", 2_580_548),
        ("mobilenet_v2", [], "mobilenet_v2x0.5", 812_836),
        ("resnet50", [], "resnet50", 23_705_252),
    ],
)
@pytest.mark.parametrize("role", ["teacher", "student"])
def test_a_name_tells_the_size(role, group, options, name, expected):
    chosen = composed(f"{role}={group}", *(f"{role}.model.{option}" for option in options))[role]
    assert chosen.name == name
    with torch.device("meta"):
        assert parameters(build(OmegaConf.to_container(chosen.model), 100, (3, 32, 32))) == expected


# --- any image -----------------------------------------------------------------------------------------

MIXED = [
    {"conv": 3, "kernel": 4, "stride": 2},
    "batch_norm",
    LEAKY,
    {"maxpool": 3, "stride": 2, "padding": "same"},
    {"conv": 2, "kernel": 2, "padding": "valid"},
    {"maxpool": 1},
    "flatten",
    {"dense": 5},
    "batch_norm",
    "relu",
    {"dropout": 0.5},
]
SMALL = {
    WideResNet: {"depth": 10, "dropout": 0.3},
    SmallResNet: {"depth": 8},
    VGG: {"depth": 8},
    ResNet18: {"upsample": 2},
    ResNet50: {},
    ShuffleNetV1: {},
    ShuffleNetV2: {"width": 0.5},
    MobileNetV2: {"width": 0.25},
    Layers: {"layers": MIXED},
}


@pytest.mark.long
@pytest.mark.parametrize("network", SMALL)
@settings(max_examples=12, deadline=None)
@given(st.integers(2, 7), st.integers(1, 4), st.integers(8, 70), st.integers(8, 70))
def test_networks_adapt_to_classes_channels_and_size(network, classes, channels, height, width):
    built = on_meta(network, classes, channels, (height, width), **SMALL[network])
    assert shape_of(built, channels, height, width) == (2, classes)


@pytest.mark.parametrize(
    "network", [WideResNet, SmallResNet, ShuffleNetV1, ShuffleNetV2, MobileNetV2, Layers]
)
def test_networks_train(network):
    """In memory as in training, channels last: each weight has a gradient, and logits start out sane."""
    torch.manual_seed(0)
    built = network(3, 2, (33, 39), **SMALL[network]).to(memory_format=torch.channels_last)
    logits = built(torch.rand(4, 2, 33, 39).contiguous(memory_format=torch.channels_last))
    nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 0])).backward()
    assert all(weight.grad.isfinite().all() for weight in built.parameters())
    assert 0.01 < logits.std() < 10


@pytest.mark.parametrize(("name", "features"), [("global_avgpool", 1.5), ("global_maxpool", 3.0)])
def test_global_pooling(name, features):
    network = Layers(2, 1, (2, 2), [name])
    assert network[0](torch.arange(4.0).reshape(1, 1, 2, 2)).tolist() == [[features]]


def test_shortcuts():
    """Without the residual a wide block is the identity, or projects what it has activated."""
    images = torch.randn(2, 4, 5, 5)
    same, wider = WideBlock(4, 4, 1, 0.0).eval(), WideBlock(4, 8, 2, 0.0).eval()
    ordinary = BasicBlock(4, 4, 1).eval()
    for last in (same.residual[-1], wider.residual[-1], ordinary.residual[-2]):
        nn.init.zeros_(last.weight)
    assert torch.equal(same(images), images)
    assert torch.equal(wider(images), wider.projection(wider.activate(images)))
    assert torch.equal(ordinary(images), images.relu())


def test_a_bottleneck_without_its_residual_is_its_shortcut():
    images = torch.randn(2, 8, 5, 5)
    same, wider = Bottleneck(8, 8, 1).eval(), Bottleneck(8, 16, 2).eval()
    for block in (same, wider):
        nn.init.zeros_(block.residual[-2].weight)
    assert torch.equal(same(images), images.relu())
    assert torch.equal(wider(images), wider.shortcut(images).relu())


def test_an_inverted_residual_is_linear_at_its_end():
    images = torch.randn(2, 4, 5, 5)
    same, wider = InvertedResidual(4, 4, 6, 1).eval(), InvertedResidual(4, 8, 6, 1).eval()
    for block in (same, wider):
        nn.init.zeros_(block.residual[-2].weight)
    assert torch.equal(same(images), images)
    assert wider(images).count_nonzero() == 0


def test_channels_are_shuffled_between_groups():
    assert Shuffle(2)(torch.arange(6.0).reshape(1, 6, 1, 1)).flatten().tolist() == [0, 3, 1, 4, 2, 5]
    assert Shuffle(3)(torch.arange(6.0).reshape(1, 6, 1, 1)).flatten().tolist() == [0, 2, 4, 1, 3, 5]


def test_a_split_block_keeps_a_half():
    """And its places alternate with those of the other half."""
    images = torch.rand(2, 4, 5, 5)
    out = SplitBlock(4).eval()(images)
    assert torch.equal(out[:, ::2], images[:, :2]) and not torch.equal(out[:, 1::2], images[:, 2:])


def test_he_initialization():
    network = SmallResNet(10, 3, (32, 32), depth=20)
    weights = network.stage3[1].residual[0].weight
    assert weights.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.05)


# --- padding as in Keras -------------------------------------------------------------------------------


def windows(image: np.ndarray, size: int, stride: int, fill: float) -> np.ndarray:
    """What a window sees, [out height, out width, size, size], by TensorFlow's own words on `same`."""
    around = []
    for length in image.shape:
        missing = max(size - (length % stride or stride), 0)
        around.append((missing // 2, missing - missing // 2))
    padded = np.pad(image, around, constant_values=fill)
    return np.lib.stride_tricks.sliding_window_view(padded, (size, size))[::stride, ::stride]


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 7), st.integers(1, 4))
def test_same_padding_of_convolutions(height, width, kernel, stride):
    image = np.random.default_rng(0).normal(size=(height, width))
    conv = SameConv2d(1, 1, kernel, stride, bias=False, dtype=torch.float64)
    expected = (windows(image, kernel, stride, 0) * conv.weight[0, 0].detach().numpy()).sum((2, 3))
    given_back = conv(torch.from_numpy(image)[None, None])[0, 0].detach().numpy()
    assert given_back.shape == (-(-height // stride), -(-width // stride))
    np.testing.assert_allclose(given_back, expected, atol=1e-12)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5), st.integers(1, 4))
def test_same_padding_of_pools_never_wins(height, width, size, stride):
    image = -1 - np.random.default_rng(0).random((height, width))
    pooled = SameMaxPool2d(size, stride)(torch.from_numpy(image)[None, None])[0, 0].numpy()
    np.testing.assert_array_equal(pooled, windows(image, size, stride, -np.inf).max((2, 3)))


def test_an_even_pool_and_a_strided_convolution_pad_below_and_right():
    assert SameMaxPool2d(2, 1)(torch.tensor([[[[-4.0, -3], [-2, -1]]]])).tolist() == [[[[-1, -1], [-1, -1]]]]
    conv = SameConv2d(1, 1, 3, 2, bias=False)
    conv.weight.data = torch.eye(9)[0].reshape(1, 1, 3, 3)  # looks at the upper left of its window
    assert conv(torch.arange(16.0).reshape(1, 1, 4, 4)).tolist() == [[[[0, 2], [8, 10]]]]


def test_nothing_is_padded_unless_asked_for():
    network = Layers(2, 1, (7, 7), [{"conv": 4, "padding": "valid"}, {"maxpool": 2}, "flatten"])
    assert nn.Sequential(*list(network)[:2])(torch.zeros(1, 1, 7, 7)).shape == (1, 4, 2, 2)


# --- messages ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            ["relu", {"convolution": 3}],
            r"^layer 2, {'convolution': 3}: unknown layer; allowed: conv, relu, .*",
        ),
        ([7], "layer 1, 7: unknown layer"),
        ([["relu"]], "unknown layer"),
        ([{"conv": 3, "size": 3}], "layer 1, .* unknown option size; allowed: kernel, stride, padding"),
        ([{"dropout": 0.1, "kernel": 3}], "unknown option kernel; allowed: none"),
        (["conv"], "layer 1, conv: conv needs a number, such as conv: 32"),
        ([{"maxpool": True}], "maxpool needs a number, such as maxpool: 2"),
        ([{"relu": 3}], "relu takes no number"),
        ([{"conv": 0}], "conv=0; allowed: whole numbers of 1 or more"),
        ([{"conv": 2, "kernel": 2.5}], "kernel=2.5; allowed: whole numbers"),
        ([{"conv": 2, "stride": 0}], "stride=0; allowed: whole numbers"),
        ([{"conv": 2, "padding": "full"}], "padding=full; allowed: same, valid"),
        ([{"dropout": 2}], "layer 1, .* between 0 and 1"),
        ([{"conv": 2}], r"after the last layer features are still 4×5×2: add flatten, global_avgpool"),
        ([], "after the last layer features are still 4×5×3"),
        ([{"dense": 2}], "features are still 4×5×3: put flatten, global_avgpool or global_maxpool before it"),
        (["flatten", {"dense": 0}], "layer 2, .* dense=0; allowed"),
        (["flatten", "flatten"], "layer 2, flatten: works on images, but features are flat here"),
        (
            [{"maxpool": 2}, {"conv": 2, "padding": "valid"}],
            "layer 2, .* its 3×3 window does not fit, features are 2×2×3 here: allowed are larger images",
        ),
    ],
)
def test_layers_that_do_not_fit_are_told(layers, message):
    with pytest.raises(ValueError, match=message):
        Layers(10, 3, (4, 5), layers)


def test_a_layer_in_a_config_is_told_by_its_number():
    model = {"_target_": "kdsweep.networks.zoo.layers.Layers", "layers": ["relu", {"conv": 3, "kernal": 3}]}
    with pytest.raises(ConfigError, match=r"Layers: ValueError: layer 2, .*: unknown option kernal; allowed"):
        build(model, 10, (3, 32, 32))


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        (WideResNet, {"depth": 27}, r"depth=27; allowed: 10, 16, 22, 28, .* \(6n \+ 4\)"),
        (WideResNet, {"depth": 4}, "depth=4; allowed"),
        (WideResNet, {"width": 0}, "width=0; allowed: 1 or more"),
        (SmallResNet, {"depth": 18}, r"depth=18; allowed: 8, 14, 20, .* \(6n \+ 2\)"),
        (SmallResNet, {"width": 0}, "width=0; allowed: 1 or more"),
        (VGG, {"depth": 12}, "depth=12; allowed: 8, 11, 13, 16, 19"),
        (VGG, {}, "images must be 8×8 pixels or larger"),
        (ResNet18, {"upsample": 0}, "upsample=0; allowed: 1"),
        (ShuffleNetV2, {"width": 2}, "width=2; allowed: 0.5, 1, 1.5"),
        (MobileNetV2, {"width": 0.05}, "width=0.05; allowed: 0.0625 or more"),
    ],
)
def test_networks_say_what_they_allow(network, options, message):
    with pytest.raises(ValueError, match=message):
        network(10, 3, (32, 7), **options)
