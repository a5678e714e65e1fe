"""Checkpoints of RepDistiller and mdistiller: each tensor comes to its place in kdsweep's networks.

The networks are written down here once more, by the names of their tensors.
"""

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from kdsweep.errors import ConfigError
from kdsweep.networks.build import build_initial

ZOO = "kdsweep.networks.zoo."
IMAGES = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


class State(dict[str, Tensor]):
    """A state dict whose tensors are drawn where a network's definition first names them."""

    def drawn(self, name: str, *size: int, least: float = -1.0) -> Tensor:
        if name not in self:
            generator = torch.Generator().manual_seed(len(self))
            tensor = torch.empty(size).uniform_(least, 1, generator=generator)
            self[name] = tensor / tensor[0].numel() ** 0.5 if len(size) > 1 else tensor
        return self[name]

    def conv(
        self, name: str, x: Tensor, width: int, kernel: int = 1, stride: int = 1, groups: int = 1
    ) -> Tensor:
        weight = self.drawn(f"{name}.weight", width, x.shape[1] // groups, kernel, kernel)
        return F.conv2d(x, weight, self.get(f"{name}.bias"), stride, kernel // 2, groups=groups)

    def norm(self, name: str, x: Tensor) -> Tensor:
        mean, bias = (self.drawn(f"{name}.{each}", x.shape[1]) for each in ("running_mean", "bias"))
        variance, weight = (
            self.drawn(f"{name}.{each}", x.shape[1], least=0.5) for each in ("running_var", "weight")
        )
        self[f"{name}.num_batches_tracked"] = torch.tensor(7)
        return F.batch_norm(x, mean, variance, weight, bias)

    def head(self, name: str, x: Tensor, classes: int = 100) -> Tensor:
        x = x.mean((2, 3))
        return F.linear(
            x, self.drawn(f"{name}.weight", classes, x.shape[1]), self.drawn(f"{name}.bias", classes)
        )


def resnet(state: State, x: Tensor, depth: int, width: int) -> Tensor:
    x = state.norm("bn1", state.conv("conv1", x, 16 * min(width, 2), 3)).relu()
    for layer, channels in enumerate((16 * width, 32 * width, 64 * width), 1):
        for block in range((depth - 2) // 6):
            name, stride = f"layer{layer}.{block}", 2 if layer > 1 and block == 0 else 1
            y = state.norm(f"{name}.bn1", state.conv(f"{name}.conv1", x, channels, 3, stride)).relu()
            y = state.norm(f"{name}.bn2", state.conv(f"{name}.conv2", y, channels, 3))
            if block == 0 and (stride > 1 or x.shape[1] != channels):
                x = state.conv(f"{name}.downsample.0", x, channels, 1, stride)
                x = state.norm(f"{name}.downsample.1", x)
            x = (x + y).relu()
    return state.head("fc", x)


def resnet50(state: State, x: Tensor) -> Tensor:
    x = state.norm("bn1", state.conv("conv1", x, 64, 3)).relu()
    for layer, (channels, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), 1):
        for block in range(blocks):
            name, stride = f"layer{layer}.{block}", 2 if layer > 1 and block == 0 else 1
            y = state.norm(f"{name}.bn1", state.conv(f"{name}.conv1", x, channels)).relu()
            y = state.norm(f"{name}.bn2", state.conv(f"{name}.conv2", y, channels, 3, stride)).relu()
            y = state.norm(f"{name}.bn3", state.conv(f"{name}.conv3", y, 4 * channels))
            if block == 0:
                x = state.conv(f"{name}.shortcut.0", x, 4 * channels, 1, stride)
                x = state.norm(f"{name}.shortcut.1", x)
            x = (x + y).relu()
    return state.head("linear", x)


def wrn(state: State, x: Tensor, depth: int, width: int) -> Tensor:
    x = state.conv("conv1", x, 16, 3)
    for group, channels in enumerate((16 * width, 32 * width, 64 * width), 1):
        for block in range((depth - 4) // 6):
            name, stride = f"block{group}.layer.{block}", 2 if group > 1 and block == 0 else 1
            active = state.norm(f"{name}.bn1", x).relu()
            y = state.norm(f"{name}.bn2", state.conv(f"{name}.conv1", active, channels, 3, stride)).relu()
            y = state.conv(f"{name}.conv2", y, channels, 3)
            if x.shape[1] != channels:
                x = state.conv(f"{name}.convShortcut", active, channels, 1, stride)
            x = x + y
    return state.head("fc", state.norm("bn1", x).relu())


def vgg(state: State, x: Tensor, blocks: tuple[int, ...]) -> Tensor:
    for block, (channels, layers) in enumerate(zip((64, 128, 256, 512, 512), blocks, strict=True)):
        for layer in range(layers):
            state.drawn(f"block{block}.{3 * layer}.bias", channels)
            x = state.conv(f"block{block}.{3 * layer}", x, channels, 3)
            x = state.norm(f"block{block}.{3 * layer + 1}", x).relu()
        x = F.max_pool2d(x, 2) if block < 3 else x
    return state.head("classifier", x)


def shuffled(x: Tensor, groups: int) -> Tensor:
    order = torch.arange(x.shape[1]).reshape(groups, -1).T.flatten()
    return x[:, order]


def shufflenet_v1(state: State, x: Tensor) -> Tensor:
    x = state.norm("bn1", state.conv("conv1", x, 24)).relu()
    for layer, (channels, blocks) in enumerate(((240, 4), (480, 8), (960, 4)), 1):
        for block in range(blocks):
            name, stride = f"layer{layer}.{block}", 1 if block else 2
            out = channels if block else channels - x.shape[1]
            groups = 1 if x.shape[1] == 24 else 3
            y = state.norm(f"{name}.bn1", state.conv(f"{name}.conv1", x, out // 4, groups=groups)).relu()
            y = state.conv(f"{name}.conv2", shuffled(y, groups), out // 4, 3, stride, out // 4)
            y = state.norm(f"{name}.bn2", y).relu()
            y = state.norm(f"{name}.bn3", state.conv(f"{name}.conv3", y, out, groups=3))
            x = x + y if block else torch.cat((y, F.avg_pool2d(x, 3, 2, 1)), 1)
            x = x.relu()
    return state.head("linear", x)


def shufflenet_v2(state: State, x: Tensor) -> Tensor:
    def chain(name: str, numbers: Iterator[int], x: Tensor, *steps: tuple[int, int, bool]) -> Tensor:
        """Layers of (channels, stride of a depthwise one or 0, whether a ReLU follows)."""
        for channels, stride, activated in steps:
            number, groups = next(numbers), channels if stride else 1
            x = state.conv(f"{name}.conv{number}", x, channels, 3 if stride else 1, stride or 1, groups)
            x = state.norm(f"{name}.bn{number}", x)
            x = x.relu() if activated else x
        return x

    x = state.norm("bn1", state.conv("conv1", x, 24)).relu()
    for layer, (channels, blocks) in enumerate(((116, 4), (232, 8), (464, 4)), 1):
        half = channels // 2
        for block in range(blocks):
            name, numbers = f"layer{layer}.{block}", count(1)
            if block:
                left, right = x[:, :half], x[:, half:]
            else:
                left = chain(name, numbers, x, (x.shape[1], 2, False), (half, 0, True))
                right = x
            stride = 1 if block else 2
            right = chain(name, numbers, right, (half, 0, True), (half, stride, False), (half, 0, True))
            x = shuffled(torch.cat((left, right), 1), 2)
    return state.head("linear", state.norm("bn2", state.conv("conv2", x, 1024)).relu())


def mobilenet_v2(state: State, x: Tensor) -> Tensor:
    x = state.norm("conv1.1", state.conv("conv1.0", x, 16, 3, 2)).relu()
    groups = (
        (1, 8, 1, 1),
        (6, 12, 2, 1),
        (6, 16, 3, 2),
        (6, 32, 4, 2),
        (6, 48, 3, 1),
        (6, 80, 3, 2),
        (6, 160, 1, 1),
    )
    for group, (expansion, channels, blocks, first) in enumerate(groups):
        for block in range(blocks):
            name, wide = f"blocks.{group}.{block}.conv", expansion * x.shape[1]
            y = state.norm(f"{name}.1", state.conv(f"{name}.0", x, wide)).relu()
            y = state.conv(f"{name}.3", y, wide, 3, 1 if block else first, wide)
            y = state.norm(f"{name}.4", y).relu()
            y = state.norm(f"{name}.7", state.conv(f"{name}.6", y, channels))
            x = x + y if block else y
    x = state.norm("conv2.1", state.conv("conv2.0", x, 1280)).relu()
    return state.head("classifier.0", x)


Definition = Callable[[State, Tensor], Tensor]
NETWORKS: dict[str, tuple[dict[str, Any], Definition]] = {
    "resnet20": ({"_target_": f"{ZOO}resnet.SmallResNet", "depth": 20}, lambda s, x: resnet(s, x, 20, 1)),
    "resnet8x4": (
        {"_target_": f"{ZOO}resnet.SmallResNet", "depth": 8, "width": 4},
        lambda s, x: resnet(s, x, 8, 4),
    ),
    "wrn_16_1": ({"_target_": f"{ZOO}wrn.WideResNet", "depth": 16}, lambda s, x: wrn(s, x, 16, 1)),
    "wrn_16_2": (
        {"_target_": f"{ZOO}wrn.WideResNet", "depth": 16, "width": 2},
        lambda s, x: wrn(s, x, 16, 2),
    ),
    "vgg8": ({"_target_": f"{ZOO}vgg.VGG", "depth": 8}, lambda s, x: vgg(s, x, (1, 1, 1, 1, 1))),
    "vgg13": ({"_target_": f"{ZOO}vgg.VGG", "depth": 13}, lambda s, x: vgg(s, x, (2, 2, 2, 2, 2))),
    "ResNet50": ({"_target_": f"{ZOO}resnet50.ResNet50"}, resnet50),
    "ShuffleV1": ({"_target_": f"{ZOO}shufflenet_v1.ShuffleNetV1"}, shufflenet_v1),
    "ShuffleV2": ({"_target_": f"{ZOO}shufflenet_v2.ShuffleNetV2"}, shufflenet_v2),
    "MobileNetV2": ({"_target_": f"{ZOO}mobilenet_v2.MobileNetV2"}, mobilenet_v2),
}


def checkpoint(name: str) -> tuple[State, Tensor]:
    """A state dict of a network of theirs, and its logits for the images."""
    state = State()
    with torch.no_grad():
        return state, NETWORKS[name][1](state, IMAGES)


def loaded(name: str, file, classes: int = 100, trained: bool = False) -> torch.nn.Module:
    return build_initial(NETWORKS[name][0], classes, (3, 32, 32), file, trained).eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_it_gives_the_logits_that_it_gave_there(tmp_path, name):
    state, logits = checkpoint(name)
    assert logits.std() > 0.01
    saved = {"epoch": 240, "model": dict(state), "best_acc": torch.tensor(73.2), "optimizer": {"state": {}}}
    torch.save(saved, tmp_path / "ckpt_epoch_240.pth")
    with torch.no_grad():
        torch.testing.assert_close(
            loaded(name, tmp_path / "ckpt_epoch_240.pth")(IMAGES), logits, rtol=1e-4, atol=1e-4
        )


def test_the_teachers_on_their_site_are_in_the_old_format(tmp_path):
    state, logits = checkpoint("resnet8x4")
    old = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    torch.save({"model": old, "accuracy": 79.42}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    with torch.no_grad():
        torch.testing.assert_close(
            loaded("resnet8x4", tmp_path / "old.pth")(IMAGES), logits, rtol=1e-4, atol=1e-4
        )


def test_a_student_of_mdistiller_is_taken_from_beside_its_teacher(tmp_path):
    student, logits = checkpoint("resnet8x4")
    teacher, _ = checkpoint("vgg8")
    both = {
        f"module.{part}.{key}": value
        for part, state in (("student", student), ("teacher", teacher))
        for key, value in state.items()
    }
    torch.save({"model": both, "epoch": 240}, tmp_path / "latest")
    with torch.no_grad():
        torch.testing.assert_close(
            loaded("resnet8x4", tmp_path / "latest")(IMAGES), logits, rtol=1e-4, atol=1e-4
        )


def test_a_head_for_other_classes_starts_again(tmp_path):
    state, _ = checkpoint("resnet8x4")
    torch.save({"model": dict(state)}, tmp_path / "model.pth")
    network = loaded("resnet8x4", tmp_path / "model.pth", classes=7, trained=True)
    assert torch.equal(network.stage3[0].residual[3].weight, state["layer3.0.conv2.weight"])
    with pytest.raises(ConfigError, match=r"its head is for 100 classes, the data has 7 \(fc.weight\)"):
        loaded("resnet8x4", tmp_path / "model.pth", classes=7)


@pytest.mark.parametrize(
    ("given", "network", "message"),
    [
        ("vgg13", "vgg8", r"35 of 72 tensors are left over \(block0.3.bias"),
        ("vgg8", "vgg13", r"lack \(it has no block0.3.weight"),
        ("resnet20", "resnet8x4", r"lack \(conv1.weight has shape \(16, 3, 3, 3\) in it and must have"),
        ("wrn_16_2", "wrn_16_1", r"lack \(block1.layer.0.conv1.weight has shape \(32, 16, 3, 3\)"),
        ("resnet20", "wrn_16_1", r"lack \(it has no block1.layer.0.bn1.weight"),
        ("ShuffleV1", "ShuffleV2", r"lack \(layer1.0.conv1.weight has shape \(54, 24, 1, 1\)"),
    ],
)
def test_the_checkpoint_of_another_network_is_refused_in_a_line(tmp_path, given, network, message):
    torch.save({"model": dict(checkpoint(given)[0])}, tmp_path / "model.pth")
    with pytest.raises(ConfigError, match=message) as error:
        loaded(network, tmp_path / "model.pth", trained=True)
    assert "\n" not in str(error.value)


def test_our_own_names_stay_in_what_is_said(tmp_path):
    state = build_initial(NETWORKS["resnet20"][0], 7, (3, 32, 32), None).state_dict()
    del state["stage2.1.residual.3.weight"]
    torch.save(state, tmp_path / "ours.pth")
    with pytest.raises(ConfigError, match=r"1 of .* lack \(it has no stage2.1.residual.3.weight"):
        loaded("resnet20", tmp_path / "ours.pth", classes=7)
