"""Taps: the same names find the right places in any network."""

import pytest
import torch
from helpers import CNN, MLP
from torch import nn

from kdsweep.errors import ConfigError
from kdsweep.networks.build import build
from kdsweep.networks.taps import Anatomy, Tapped

ZOO = "kdsweep.networks.zoo."
RESNET = {"_target_": f"{ZOO}resnet.SmallResNet", "depth": 8}
WRN = {"_target_": f"{ZOO}wrn.WideResNet", "depth": 10}
VGG = {"_target_": f"{ZOO}vgg.VGG", "depth": 8}
RESNET50 = {"_target_": f"{ZOO}resnet50.ResNet50"}
SHUFFLENET_V1 = {"_target_": f"{ZOO}shufflenet_v1.ShuffleNetV1"}
SHUFFLENET_V2 = {"_target_": f"{ZOO}shufflenet_v2.ShuffleNetV2"}
MOBILENET_V2 = {"_target_": f"{ZOO}mobilenet_v2.MobileNetV2"}
RESNET18 = {"_target_": f"{ZOO}resnet18.ResNet18"}
LAYERS = {
    "_target_": f"{ZOO}layers.Layers",
    "layers": [{"conv": 4}, "relu", {"maxpool": 2}, {"conv": 6}, "relu", "global_avgpool"],
}
TIMM, TORCHVISION = "kdsweep.networks.library.timm", "kdsweep.networks.library.torchvision"


def images(size: int, channels: int = 3) -> torch.Tensor:
    return torch.rand(2, channels, size, size, generator=torch.Generator().manual_seed(0))


def shapes(model: dict, taps: list[str], size: int = 32) -> dict[str, list[tuple[int, ...]]]:
    network = build(model, 5, (3, size, size)).eval()
    given = Tapped(network, taps, images(size))(images(size)).taps
    return {name: [tuple(value.shape[1:]) for value in values] for name, values in given.items()}


@pytest.mark.parametrize(
    ("model", "stages", "embedding"),
    [
        (RESNET, [(16, 32, 32), (32, 16, 16), (64, 8, 8)], 64),
        (WRN, [(16, 32, 32), (32, 16, 16), (64, 8, 8)], 64),
        (VGG, [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4), (512, 4, 4)], 512),
        (RESNET18, [(64, 8, 8), (128, 4, 4), (256, 2, 2), (512, 1, 1)], 512),
        (RESNET50, [(256, 32, 32), (512, 16, 16), (1024, 8, 8), (2048, 4, 4)], 2048),
        (SHUFFLENET_V1, [(240, 16, 16), (480, 8, 8), (960, 4, 4)], 960),
        (SHUFFLENET_V2, [(116, 16, 16), (232, 8, 8), (464, 4, 4)], 1024),
        (MOBILENET_V2, [(12, 16, 16), (16, 8, 8), (48, 4, 4), (160, 2, 2)], 1280),
        (CNN, [(32, 32, 32), (64, 32, 32)], 128),
        (LAYERS, [(4, 32, 32), (6, 16, 16)], 6),
    ],
    ids=[
        "resnet",
        "wrn",
        "vgg",
        "resnet18",
        "resnet50",
        "shufflenet_v1",
        "shufflenet_v2",
        "mobilenet_v2",
        "mnist_cnn",
        "layers",
    ],
)
def test_the_zoo(model, stages, embedding):
    found = shapes(model, ["stages", "embedding", *(f"stage{n + 1}" for n in range(len(stages)))])
    assert found["stages"] == stages
    assert [found[f"stage{n + 1}"] for n in range(len(stages))] == [[size] for size in stages]
    assert found["embedding"] == [(embedding,)]


@pytest.mark.parametrize(
    ("model", "stages", "map_size", "embedding"),
    [
        ({"_target_": TIMM, "architecture": "resnet18", "upsample": 1},
         [(64, 16), (64, 8), (128, 4), (256, 2), (512, 1)], (256, 2, 2), 512),
        ({"_target_": TORCHVISION, "architecture": "resnet18", "upsample": 2},
         [(64, 32), (64, 16), (128, 8), (256, 4), (512, 2)], (512, 2, 2), 512),
        ({"_target_": TORCHVISION, "architecture": "mobilenet_v3_small", "upsample": 2},
         [(16, 32), (16, 16), (24, 8), (48, 4), (576, 2)], (576, 2, 2), 1024),
        ({"_target_": TIMM, "architecture": "vit_tiny_patch16_224"},
         [(192, 14)] * 12, (192, 14, 14), 192),
        ({"_target_": TIMM, "architecture": "swin_tiny_patch4_window7_224"},
         [(96, 56), (192, 28), (384, 14), (768, 7)], (768, 7, 7), 768),
    ],
    ids=["timm resnet", "torchvision resnet", "torchvision mobilenet", "timm ViT", "timm NHWC"],
)  # fmt: skip
def test_libraries(model, stages, map_size, embedding):
    found = shapes(model, ["stages", "map", "embedding"])
    assert [size[:2] for size in found["stages"]] == stages
    assert all(size[1] == size[2] for size in found["stages"])
    assert found["map"] == [map_size]
    assert found["embedding"] == [(embedding,)]


def test_tokens_are_laid_out_as_the_patches_of_the_image():
    """The class token is left out, and a patch stands where it is in the image."""
    network = build({"_target_": TIMM, "architecture": "vit_tiny_patch16_224"}, 5, (3, 224, 224)).eval()
    (tapped,) = Tapped(network, ["network.blocks.0"], images(224))(images(224)).taps["network.blocks.0"]
    seen: list[torch.Tensor] = []
    network.network.blocks[0].register_forward_hook(lambda module, inputs, output: seen.append(output))
    network(images(224))
    assert torch.equal(tapped[1, :, 3, 5], seen[0][1, 1 + 3 * 14 + 5])


@pytest.mark.parametrize(
    "model",
    [RESNET, RESNET18, RESNET50, SHUFFLENET_V1, SHUFFLENET_V2],
    ids=["resnet", "resnet18", "resnet50", "shufflenet_v1", "shufflenet_v2"],
)
def test_before_the_last_activation_of_a_stage(model):
    network = build(model, 5, (3, 32, 32)).eval()
    given = Tapped(network, ["stage2", "stage2.pre"], images(32))(images(32)).taps
    (after,), (before,) = given["stage2"], given["stage2.pre"]
    assert before.lt(0).any()
    assert torch.equal(after, before.relu())


def test_a_wide_resnet_normalizes_a_stage_in_the_next_one():
    """What overhaul and review distillation compare; its ReLU is not in place."""
    network = build(WRN, 5, (3, 32, 32)).eval()
    places = ["stage2.0.activate.0", "stage3.0.activate.0", "norm.0"]
    given = Tapped(network, ["stages", "stages.pre"], images(32))(images(32)).taps
    for stage, before, place in zip(given["stages"], given["stages.pre"], places, strict=True):
        assert torch.equal(before, network.get_submodule(place)(stage)) and before.lt(0).any()


def test_timms_preactivation_resnet_does_too():
    model = {"_target_": TIMM, "architecture": "resnetv2_50", "pretrained": False}
    network = build(model, 5, (3, 32, 32)).eval()
    places = Anatomy(network, images(32)).places(["stage2.pre", "stage5.pre"])
    assert [place.module for found in places.values() for place in found] == [
        "network.stages.1.blocks.0.norm1.act",
        "network.norm.act",
    ]


def test_a_stage_without_an_activation_has_none_to_look_before():
    """MobileNetV2's end in a linear layer, and the next layer makes another width of it."""
    network = build(MOBILENET_V2, 5, (3, 32, 32)).eval()
    with pytest.raises(ConfigError, match=r"has no tap stage2\.pre"):
        Tapped(network, ["stage2.pre"], images(32))


def test_a_modules_path_is_a_tap_of_any_network():
    network = build(MLP, 5, (3, 8, 8))
    (found,) = Tapped(network, ["hidden1"], images(8))(images(8)).taps["hidden1"]
    assert found.shape == (2, 16)


class Own(nn.Module):
    """A user's network whose parts have names of their own."""

    def __init__(
        self, num_classes: int, in_channels: int, image_size: tuple[int, int], inplace: bool = False
    ):
        super().__init__()
        self.wide = nn.Conv2d(in_channels, 4, 3, padding=1)
        self.act = nn.ReLU(inplace=inplace)
        self.down = nn.Conv2d(4, 8, 3, 2, padding=1)
        self.classify = nn.Linear(8, num_classes)

    def forward(self, images):
        return self.classify(self.down(self.act(self.wide(images))).mean((2, 3)))


def test_a_network_of_ones_own():
    found = shapes({"_target_": f"{__name__}.Own"}, ["stages", "map", "embedding", "down"], size=8)
    assert found == {
        "stages": [(4, 8, 8), (8, 4, 4)],
        "map": [(8, 4, 4)],
        "embedding": [(8,)],
        "down": [(8, 4, 4)],
    }


@pytest.mark.parametrize("gradients", [True, False])
def test_what_was_overwritten_in_place_is_an_error_that_names_both(gradients):
    network = Own(5, 3, (8, 8), inplace=True)
    tapped = Tapped(network, ["wide"], images(8))
    with (
        torch.set_grad_enabled(gradients),
        pytest.raises(ConfigError, match="has the output of wide overwritten in place by act"),
    ):
        tapped(images(8))
    assert Tapped(network, ["act"], images(8))(images(8)).taps["act"][0].ge(0).all()


@pytest.mark.parametrize("tap", ["stage2", "map", "layer3.1", "stages", "stage1.pre", ""])
def test_a_tap_that_a_network_lacks_is_refused_with_those_it_has(tap):
    network = build(MLP, 5, (3, 8, 8))
    with pytest.raises(ConfigError, match=r"has no tap .*it has embedding, or a module's path"):
        Anatomy(network, images(8)).places([tap])


def test_taps_carry_gradients_to_the_student():
    network = build(RESNET, 5, (3, 8, 8))
    (found,) = Tapped(network, ["stage2"], images(8))(images(8)).taps["stage2"]
    found.sum().backward()
    grads = {name: each.grad is not None for name, each in network.named_parameters()}
    assert grads["stem.0.weight"] and not grads["stage3.0.residual.0.weight"]


def test_tapping_leaves_the_network_as_it_was():
    network = build(RESNET, 5, (3, 8, 8)).train()
    before = {name: each.clone() for name, each in network.state_dict().items()}
    Tapped(network, ["stages"], images(8))
    assert network.training and network.stage1[0].training
    assert all(torch.equal(before[name], each) for name, each in network.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
