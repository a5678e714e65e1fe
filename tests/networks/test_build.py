"""Networks: exact sizes, any image, and messages for those that do not fit."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdsweep.config.code import source_digest
from kdsweep.errors import ConfigError
from kdsweep.networks.build import build, check
from kdsweep.networks.cost import Sized, cost
from kdsweep.networks.zoo.mlp import MLP
from kdsweep.networks.zoo.mnist_cnn import MnistCNN

MNIST = (10, 1, (28, 28))
CNN_MODEL = {"_target_": "kdsweep.networks.zoo.mnist_cnn.MnistCNN"}
MLP_MODEL = {"_target_": "kdsweep.networks.zoo.mlp.MLP", "hidden": [784, 784]}


def parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_parameters_on_mnist_are_exact():
    assert parameters(MnistCNN(*MNIST)) == 1_625_866
    assert parameters(MLP(*MNIST)) == 1_238_730


def test_cost_on_mnist():
    teacher = cost(Sized(CNN_MODEL, 10, (1, 28, 28)))
    assert teacher["parameters"] == 1_625_866
    assert teacher["flops"] / 1e6 == pytest.approx(32.57, abs=0.005)
    student = cost(Sized(MLP_MODEL, 10, (1, 28, 28)))
    assert student["flops"] == 2 * (784 * 784 * 2 + 784 * 10)


@given(
    st.integers(2, 7),
    st.integers(1, 4),
    st.integers(2, 19),
    st.integers(2, 19),
    st.sampled_from([MLP, MnistCNN]),
)
def test_networks_adapt_to_classes_channels_and_size(classes, channels, height, width, network):
    logits = network(classes, channels, (height, width))(torch.rand(3, channels, height, width))
    assert logits.shape == (3, classes)


def test_mnist_cnn_pads_as_keras_does():
    """Stride-1 pooling with `same` padding: each pixel is the largest of itself, right, below and both."""
    network = MnistCNN(2, 1, (4, 4))
    pool = network.pool1
    image = torch.arange(16.0).reshape(1, 1, 4, 4)
    expected = torch.tensor([[5, 6, 7, 7], [9, 10, 11, 11], [13, 14, 15, 15], [13, 14, 15, 15.0]])
    assert torch.equal(pool(image)[0, 0], expected)


GIVEN = "num_classes, in_channels, image_size"


def write_network(folder, body: str, monkeypatch) -> dict:
    folder.mkdir(exist_ok=True)
    name = f"net_{abs(hash(body))}"
    (folder / f"{name}.py").write_text(f"from torch import nn\n\n{body}\n")
    monkeypatch.chdir(folder)
    return {"_target_": f"{name}.Net"}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("Net = 3", "_target_=net_"),
        (f"def Net({GIVEN}): return 7", "gave int, not an nn.Module"),
        ("def Net(num_classes): return nn.Flatten()", "unexpected keyword argument"),
        (f"def Net({GIVEN}): return nn.Linear(5, 5)", "does not take images of 1×8×8"),
        (
            f"def Net({GIVEN}): return nn.Sequential(nn.Flatten(), nn.Linear(64, 7))",
            r"must be logits of shape \(2, 3\)",
        ),
        (f"def Net({GIVEN}): return nn.Sequential(nn.AvgPool2d(8), nn.Flatten())", "must be logits"),
        (
            f"def Net({GIVEN}): return nn.Sequential(nn.Flatten(), nn.AdaptiveAvgPool1d(3))",
            "no parameters to train",
        ),
    ],
)
def test_a_network_that_does_not_fit_is_told(tmp_path, monkeypatch, body, message):
    with pytest.raises(ConfigError, match=message) as error:
        check(write_network(tmp_path, body, monkeypatch), 3, (1, 8, 8))
    assert "\n" not in str(error.value)


def test_own_network_is_found_in_the_working_directory(tmp_path, monkeypatch):
    body = (
        "def Net(num_classes, in_channels, image_size, width=4):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Linear(width, num_classes))"
    )
    model = write_network(tmp_path, body, monkeypatch)
    check(model, 3, (1, 8, 8))
    assert parameters(build({**model, "width": 2}, 3, (1, 8, 8))) == 64 * 2 + 2 + 2 * 3 + 3


def test_a_network_that_needs_its_own_memory_layout_is_told(tmp_path, monkeypatch):
    """Training uses channels last, where `view` does not flatten what a convolution gives."""
    body = (
        "class Net(nn.Module):\n"
        "    def __init__(self, num_classes, in_channels, image_size):\n"
        "        super().__init__()\n"
        "        self.conv = nn.Conv2d(in_channels, 4, 3, padding=1)\n"
        "        self.head = nn.Linear(256, num_classes)\n\n"
        "    def forward(self, x):\n"
        "        return self.head(self.conv(x).view(len(x), -1))\n"
    )
    with pytest.raises(ConfigError, match=r"does not take images of 1×8×8: .*\.reshape"):
        check(write_network(tmp_path, body, monkeypatch), 3, (1, 8, 8))


def test_own_source_is_part_of_the_recipe(tmp_path, monkeypatch):
    """The file of the network, what it imports of the user's, relatively too, and nested targets."""
    package = tmp_path / "own_package"
    package.mkdir()
    files = {
        "__init__.py": "from .net import Net\n",
        "net.py": "import torch\nimport own_helper\nfrom own_package import blocks\n",
        "blocks.py": "",
        "unrelated.py": "",
        "../own_helper.py": "",
        "../own_part.py": "",
    }
    for name, content in files.items():
        (package / name).write_text(content)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (package / "net.py").write_text(files["net.py"] + "Net = torch.nn.Identity\n")
    model = {"_target_": "own_package.Net", "parts": [{"_target_": "own_part.Part"}]}
    digests = [source_digest(model)]
    for name in files:
        if name != "unrelated.py":
            (package / name).write_text((package / name).read_text() + "# edited\n")
        digests.append(source_digest(model))
    assert len(set(digests)) == len(files), "each but the unrelated file changes it"
    assert None not in digests


def test_a_package_is_part_of_its_modules(tmp_path, monkeypatch):
    package = tmp_path / "own_nets"
    package.mkdir()
    (package / "__init__.py").write_text("WIDTH = 3\n")
    (package / "small.py").write_text("import own_nets\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    before = source_digest({"_target_": "own_nets.small.Small"})
    (package / "__init__.py").write_text("WIDTH = 4\n")
    assert source_digest({"_target_": "own_nets.small.Small"}) != before


def test_a_package_that_is_broken_is_told_by_its_network(tmp_path, monkeypatch):
    (tmp_path / "broken_nets").mkdir()
    (tmp_path / "broken_nets" / "__init__.py").write_text("1 +\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    model = {"_target_": "broken_nets.small.Small"}
    source_digest(model)
    with pytest.raises(ConfigError, match=r"model\._target_=broken_nets\.small\.Small: "):
        check(model, 3, (1, 8, 8))


def test_installed_networks_have_no_source():
    for target in ("kdsweep.networks.zoo.mlp.MLP", "torch.nn.Linear", "nowhere.Net"):
        assert source_digest({"_target_": target}) is None
