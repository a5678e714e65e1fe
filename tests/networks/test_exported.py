"""Networks in files that other programs exported."""

import io
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdsweep.errors import ConfigError
from kdsweep.networks.build import build, build_initial

TARGET = "kdsweep.networks.exported.Exported"
SHAPE = (3, 16, 16)


class Small(nn.Module):
    """Another program's: it wants 8×8 pixels in its own order, and gives two outputs."""

    def __init__(self, order: str = "NCHW") -> None:
        super().__init__()
        self.order, self.body = order, nn.Conv2d(3, 4, 3, stride=2)
        self.head = nn.Linear(36, 5)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        images = images if self.order == "NCHW" else images.permute(0, 3, 1, 2)
        features = self.body(images).relu().flatten(1)
        return self.head(features), features


class First(nn.Module):
    def __init__(self, network: nn.Module, number: int = 0) -> None:
        super().__init__()
        self.network, self.number = network, number

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)[self.number]


def written(network: nn.Module, kind: str, folder: Path, example: Tensor, dynamic: bool = True) -> Path:
    file, network = folder / f"teacher.{kind}", network.eval()
    batch = ({0: torch.export.Dim("batch")},) if dynamic else None
    if kind == "onnx":
        options = {
            "input_names": ["images"],
            "output_names": ["scores", "features"][: 2 - isinstance(network, First)],
        }
        torch.onnx.export(
            network, (example,), file, dynamic_shapes=batch, external_data=False, verbose=False, **options
        )
    elif kind == "pt2":
        torch.export.save(torch.export.export(network, (example,), dynamic_shapes=batch), file)
    else:
        torch.jit.trace(network, example).save(str(file))
    return file


def opened(file: Path, shape: tuple[int, int, int] = SHAPE, classes: int = 5, **options: object) -> nn.Module:
    return build_initial({"_target_": TARGET, **options}, classes, shape, file, trained=False)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", ["onnx", "pt2", "pt"])
def test_it_gives_what_its_program_gives_at_its_own_size_and_normalisation(tmp_path, images, kind):
    network = Small().eval()
    file = written(network, kind, tmp_path, torch.rand(2, 3, 8, 8))
    size = {"size": 8} if kind == "pt" else {}  # TorchScript does not say which it takes
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.3, 0.25]
    teacher = opened(file, mean=mean, std=std, **size)
    small = F.interpolate(images, (8, 8), mode="bilinear", antialias=True)
    given = (small - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    with torch.no_grad():
        scores, features = network(given)
        torch.testing.assert_close(teacher(images), scores, atol=1e-5, rtol=1e-4)
        second = opened(file, mean=mean, std=std, output=1, **size)
        torch.testing.assert_close(second(images), features, atol=1e-5, rtol=1e-4)
    if kind == "onnx":
        named = opened(file, mean=mean, std=std, output="features")
        torch.testing.assert_close(named(images), features, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["onnx", "pt"])
def test_its_order_of_dimensions_and_a_fixed_batch_are_its_own(tmp_path, images, kind):
    network = First(Small("NHWC")).eval()
    file = written(network, kind, tmp_path, torch.rand(2, 8, 8, 3), dynamic=False)
    teacher = opened(file, layout="NHWC", size=[8, 8])
    small = F.interpolate(images, (8, 8), mode="bilinear", antialias=True)
    with torch.no_grad():
        torch.testing.assert_close(teacher(images), network(small.permute(0, 2, 3, 1)), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["onnx", "pt2", "pt"])
def test_its_tensors_are_all_that_the_store_needs(tmp_path, images, kind):
    file = written(First(Small()), kind, tmp_path, torch.rand(2, *SHAPE)[:, :, :8, :8])
    teacher = opened(file, size=8)
    kept = teacher.state_dict()
    assert {name: bytes(each.numpy()) for name, each in kept.items()} == {"content": file.read_bytes()}
    again = build({"_target_": TARGET, "size": 8}, 5, SHAPE)
    again.load_state_dict(kept)
    file.unlink()
    assert torch.equal(again(images), teacher(images))


def test_one_channel_becomes_three(tmp_path):
    file = written(First(Small()), "onnx", tmp_path, torch.rand(2, 3, 8, 8))
    teacher = opened(file, (1, 8, 8), mean=[0.1, 0.2, 0.3], std=[1, 1, 1])
    grey = torch.rand(2, 1, 8, 8)
    three = opened(file, (3, 8, 8), mean=[0.1, 0.2, 0.3], std=[1, 1, 1])
    torch.testing.assert_close(teacher(grey), three(grey.expand(-1, 3, -1, -1)))


def test_what_is_no_network_is_refused_in_a_line(tmp_path, images):
    weights = tmp_path / "weights.pt"
    torch.save(Small().state_dict(), weights)
    for file, why in (
        (weights, "holds weights without their network"),
        (_text(tmp_path), "no ONNX, TorchScript or torch.export file"),
    ):
        with pytest.raises(ConfigError, match=why) as found:
            opened(file)(images)
        assert "\n" not in str(found.value)
    good = written(First(Small()), "onnx", tmp_path, torch.rand(2, 3, 8, 8))
    for options, why in (
        ({"output": 7}, "model.output=7: no such output; allowed: scores"),
        ({"size": 0}, "model.size=0: must be a number of pixels"),
        ({"mean": [1.0, 2.0]}, "have 2 and 1 numbers"),
        ({"layout": "CHW"}, "allowed: NCHW, NHWC"),
    ):
        with pytest.raises(ConfigError, match=why):
            opened(good, **options)(images)


def _text(folder: Path) -> Path:
    file = folder / "teacher.onnx"
    file.write_bytes(io.BytesIO(b"not a network").getvalue())
    return file
