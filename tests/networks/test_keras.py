"""Keras' initialization and constants: by its formulas, for every network, from config to stored weights."""

import math
from functools import cache

import numpy as np
import pytest
import torch
from helpers import composed, make_dataset, make_stage, mistakes, model_of, optimizer
from planning import KNOWN, planned
from scipy import stats
from torch import nn

from kdsweep.config import Hardware
from kdsweep.config.parse import parse
from kdsweep.errors import ConfigError
from kdsweep.networks import INIT
from kdsweep.networks.build import build, check
from kdsweep.stages.chains import plan
from kdsweep.stages.maker import Maker
from kdsweep.store.store import Store
from kdsweep.training.network import selection_metrics
from kdsweep.training.optimizers import make_optimizer

OWN = {  # networks of kdsweep's, and the images that they are built for
    "mlp": ("student/mlp.yaml", (1, 28, 28)),
    "mnist_cnn": ("teacher/mnist_cnn.yaml", (1, 28, 28)),
    "cifar10_cnn": ("student/cifar10_cnn.yaml", (3, 32, 32)),
    "small_cnn": ("student/small_cnn.yaml", (3, 64, 64)),
    "wrn": ("student/wrn.yaml", (3, 32, 32)),
    "resnet": ("student/resnet.yaml", (3, 32, 32)),
    "resnet18": ("student/resnet18.yaml", (3, 32, 32)),
    "vgg": ("student/vgg.yaml", (3, 32, 32)),
    "shufflenet_v1": ("student/shufflenet_v1.yaml", (3, 32, 32)),
    "shufflenet_v2": ("student/shufflenet_v2.yaml", (3, 32, 32)),
    "mobilenet_v2": ("student/mobilenet_v2.yaml", (3, 32, 32)),
}
BACKBONE = {
    "_target_": "kdsweep.networks.library.torchvision",
    "architecture": "resnet18",
    "pretrained": False,
    "head": {"hidden": [200], "batch_norm": True},
}


@cache
def built(name: str, init: str | None) -> nn.Module:
    torch.manual_seed(0)
    file, shape = OWN[name]
    return build(model_of(file) | ({INIT: init} if init else {}), 10, shape)


def fans(weight: np.ndarray) -> tuple[int, int]:
    """keras/src/initializers/random_initializers.py, compute_fans; a kernel's shape turned to PyTorch's."""
    outputs, inputs, *window = weight.shape
    return inputs * math.prod(window), outputs * math.prod(window)


def glorot_uniform(weight: np.ndarray) -> stats.rv_continuous:
    fan_in, fan_out = fans(weight)
    limit = math.sqrt(3 * 1 / ((fan_in + fan_out) / 2))
    return stats.uniform(-limit, 2 * limit)


def he_normal(weight: np.ndarray) -> stats.rv_continuous:
    deviation = math.sqrt(2 / fans(weight)[0]) / 0.87962566103423978
    return stats.truncnorm(-2, 2, scale=deviation)


def follows(weight: np.ndarray, law: stats.rv_continuous) -> bool:
    """Whether nothing lies outside of it, and the share below each value is what it should be."""
    some = weight.ravel()[:: max(1, weight.size // 10_000)]
    return bool(np.abs(weight).max() <= law.support()[1] and stats.kstest(some, law.cdf).pvalue > 1e-4)


def drawn(network: nn.Module) -> list[tuple[nn.Module, np.ndarray]]:
    layers = [module for module in network.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    return [(layer, layer.weight.detach().double().numpy()) for layer in layers]


@pytest.mark.parametrize("init", ["keras", "keras_he"])
@pytest.mark.parametrize("name", OWN)
def test_weights_are_drawn_by_keras_formulas(name, init):
    network = built(name, init)
    for layer, weight in drawn(network):
        he = init == "keras_he" and isinstance(layer, nn.Conv2d)
        assert follows(weight, he_normal(weight) if he else glorot_uniform(weight)), layer
        assert layer.bias is None or not layer.bias.detach().any()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            assert (module.eps, module.momentum) == (1e-3, pytest.approx(1 - 0.99))


@pytest.mark.parametrize(
    ("name", "init", "shape", "own", "expected"),
    [
        ("mlp", "keras", (784, 784), 0.0206, 0.0357),
        ("mlp", "keras", (10, 784), 0.0206, 0.0502),
        ("cifar10_cnn", "keras", (32, 32, 3, 3), 0.0340, 0.0589),
        ("resnet18", "keras_he", (64, 3, 7, 7), 0.0253, 0.1166),
        ("resnet18", "keras_he", (128, 64, 3, 3), 0.0417, 0.0589),
        ("resnet18", "keras_he", (10, 512), 0.0255, 0.0619),
    ],
)
def test_deviations_of_published_layers(name, init, shape, own, expected):
    def deviation(init: str | None) -> float:
        return next(weight.std() for _, weight in drawn(built(name, init)) if weight.shape == shape)

    assert deviation(None) == pytest.approx(own, rel=0.04)
    assert deviation(init) == pytest.approx(expected, rel=0.04)


def test_batch_normalization_counts_as_keras_does():
    """One batch through a layer, against float64: output in train mode, then the moving averages."""
    model = {
        "_target_": "kdsweep.networks.zoo.layers.Layers",
        "layers": ["batch_norm", "flatten"],
        INIT: "keras",
    }
    network = build(model, 2, (3, 4, 4))
    images = 0.02 * torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    given = images.double().numpy()
    mean, variance = given.mean((0, 2, 3)), given.var((0, 2, 3))
    expected = (given - mean[:, None, None]) / np.sqrt(variance + 1e-3)[:, None, None]
    np.testing.assert_allclose(network.train()[0](images).detach().numpy(), expected, atol=1e-6)
    np.testing.assert_allclose(network[0].running_mean.numpy(), 0.01 * mean, rtol=1e-5)
    count = given.size // 3  # Keras' fused form corrects the variance as PyTorch does
    np.testing.assert_allclose(
        network[0].running_var.numpy(), 0.99 + 0.01 * variance * count / (count - 1), rtol=1e-6
    )


def adam(gradients: list[float], epsilon: float) -> float:
    """Where a weight that was 0 goes (Kingma & Ba 2015, algorithm 1)."""
    weight = first = second = 0.0
    for step, gradient in enumerate(gradients, 1):
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        weight -= 0.01 * (first / (1 - 0.9**step)) / (math.sqrt(second / (1 - 0.999**step)) + epsilon)
    return weight


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_epsilon_of_adam(name):
    """Gradients so small that it matters."""
    gradients = [3e-8, -1e-8, 5e-8]
    moved = {}
    for epsilon in (1e-8, 1e-7):
        weight = nn.Parameter(torch.zeros(1))
        recipe = make_stage(optimizer=optimizer(name, eps=epsilon, weight_decay=0.0)).training
        stepper = make_optimizer([{"params": [weight]}], recipe, 0.01)
        for gradient in gradients:
            weight.grad = torch.tensor([gradient])
            stepper.step()
        moved[epsilon] = weight.item()
        assert moved[epsilon] == pytest.approx(adam(gradients, epsilon), rel=1e-4)
    assert abs(moved[1e-7]) < 0.5 * abs(moved[1e-8])


# --- config and keys -----------------------------------------------------------------------------------


@pytest.mark.parametrize("init", ["own", "keras", "keras_he"])
@pytest.mark.parametrize("student", ["mlp", "cifar10_cnn", "small_cnn", "wrn", "resnet", "resnet18", "vgg"])
def test_any_network_takes_it(student, init):
    """From the command line, the student and the student alone; the teacher keeps its own."""
    config = parse(composed(f"student={student}", f"student.init={init}", "chain_length=1"))
    made = plan(config, "content", KNOWN)
    stages = (made.chain["student"], made.scratch)
    assert [stage.model.get(INIT, "own") for stage in stages] == [init, init]
    assert INIT not in made.chain["teacher"].model


def test_the_default_is_as_if_there_were_no_choice():
    def keys(*overrides: str) -> list[str]:
        return [stage.key for stage in planned(*overrides).links().values()]

    assert keys() == keys("teacher.init=own", "student.init=own", "training.optimizer.eps=1e-8")
    changes = [
        "student.init=keras",
        "student.init=keras_he",
        "teacher.init=keras",
        "training/optimizer=keras_adam",
    ]
    assert len({keys()[-1], *(keys(change)[-1] for change in changes)}) == 5


def test_a_wrong_choice_is_told():
    assert mistakes("student.init=kears") == ["student.init=kears: allowed: own, keras, keras_he"]


def test_an_assistant_has_a_choice_of_its_own():
    made = planned("experiment=mnist_takd", "student.init=own")
    assert [stage.model.get(INIT) for stage in made.chain.values()] == ["keras", "keras", None]


# --- where it ends -------------------------------------------------------------------------------------


def test_of_a_backbone_the_head_alone_is_drawn():
    torch.manual_seed(0)
    plain = build(BACKBONE, 10, (3, 64, 64))
    torch.manual_seed(0)
    network = build({**BACKBONE, INIT: "keras"}, 10, (3, 64, 64))
    (place,) = network.classifiers
    theirs = plain.state_dict()
    for name, tensor in network.state_dict().items():
        if not name.startswith(place):
            assert torch.equal(tensor, theirs[name]), name
    for _, weight in drawn(network.head):
        assert follows(weight, glorot_uniform(weight))
    epsilons = {
        name.startswith(place): module.eps
        for name, module in network.named_modules()
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
    }
    assert epsilons == {True: 1e-3, False: 1e-5}


def test_a_network_without_such_layers_refuses_it(tmp_path, monkeypatch):
    (tmp_path / "net_scale.py").write_text(
        "import torch\nfrom torch import nn\n\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, num_classes, in_channels, image_size):\n"
        "        super().__init__()\n"
        "        self.scale = nn.Parameter(torch.ones(num_classes))\n\n"
        "    def forward(self, x):\n"
        "        return x.flatten(1)[:, :1] * self.scale\n"
    )
    monkeypatch.chdir(tmp_path)
    check({"_target_": "net_scale.Net"}, 3, (1, 8, 8))
    with pytest.raises(
        ConfigError, match=r"^init=keras: the network has no dense layer, convolution or batch"
    ):
        check({"_target_": "net_scale.Net", INIT: "keras"}, 3, (1, 8, 8))


def test_a_network_of_the_users_may_have_an_option_of_that_name(tmp_path, monkeypatch):
    (tmp_path / "net_named.py").write_text(
        "from torch import nn\n\n"
        "def Net(num_classes, in_channels, image_size, init):\n"
        "    network = nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))\n"
        "    nn.init.constant_(network[1].weight, init)\n"
        "    return network\n"
    )
    monkeypatch.chdir(tmp_path)
    model = {"_target_": "net_named.Net", "init": 7}
    assert build(model, 3, (1, 8, 8))[1].weight.eq(7).all()
    assert build({**model, INIT: "keras"}, 3, (1, 8, 8))[1].weight.abs().max() < 1


def test_what_is_trained_with_it_is_evaluated_with_its_constants(tmp_path):
    """BatchNorm's epsilon is no weight: a network that is built for stored weights must have it too."""
    dataset = make_dataset()
    model = {
        "_target_": "kdsweep.networks.zoo.layers.Layers",
        "layers": ["batch_norm", "flatten"],
        INIT: "keras",
    }
    stage = make_stage(model, epochs=2, learning_rate=0.01, keep="last")
    hardware = Hardware(device="cpu", threads=1)
    maker = Maker(Store(tmp_path / "store"), dataset, hardware, {}, lambda event: None)
    trained = maker.obtain({"student": stage}, {})["student"]
    evaluated = selection_metrics(
        maker.answers.outputs(stage, "val", "logits"), torch.tensor(dataset.val.labels)
    )
    assert evaluated == pytest.approx(trained.val.metrics())
    assert maker.answers.network(stage)[0].eps == 1e-3
