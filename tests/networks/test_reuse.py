"""A student that ends in its teacher's head, joined of any two networks."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from helpers import CNN, MLP
from torch import nn

from kdsweep.errors import ConfigError
from kdsweep.networks.build import build, build_initial

SHAPE = (3, 32, 32)
RESNET = {"_target_": "kdsweep.networks.zoo.resnet.SmallResNet", "depth": 8}
RESNET8X4, RESNET32X4 = {**RESNET, "width": 4}, {**RESNET, "depth": 32, "width": 4}
WRN = {"_target_": "kdsweep.networks.zoo.wrn.WideResNet", "depth": 10}
TIMM, TORCHVISION = "kdsweep.networks.library.timm", "kdsweep.networks.library.torchvision"
VGG = {"_target_": TORCHVISION, "architecture": "vgg11", "pretrained": False}
RESNET18 = {"_target_": TORCHVISION, "architecture": "resnet18", "pretrained": False}
MOBILENET = {"_target_": TIMM, "architecture": "mobilenetv3_small_050", "pretrained": False}
EFFICIENTNET = {"_target_": TIMM, "architecture": "tf_efficientnet_lite0", "pretrained": False}
VIT = {"_target_": TIMM, "architecture": "vit_tiny_patch16_224", "pretrained": False}


class Crossing(nn.Module):
    """A user's own network, whose parts do not run in sequence."""

    def __init__(self, num_classes, in_channels, image_size):
        super().__init__()
        self.first, self.second = nn.Conv2d(in_channels, 8, 3, 4), nn.Conv2d(8, 8, 3, padding=1)
        self.activation, self.last = nn.ReLU(), nn.Linear(8, num_classes)

    def forward(self, images):
        features = self.first(images)
        return self.last(self.activation(features + self.second(features)).mean((2, 3)))


OWN = {"_target_": f"{__name__}.Crossing"}


def joined(student: dict, teacher: dict, classes: int = 5, **options: object) -> nn.Module:
    description = {
        "_target_": "kdsweep.networks.reuse.TeachersHead",
        "_recursive_": False,
        "student": student,
        "teacher": teacher,
        **options,
    }
    return build(description, classes, SHAPE).eval()


def images(count: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_its_size_is_body_and_projector_and_head(factor):
    """resnet8x4 under resnet32x4; convolutions without bias, and a scale and a shift for each channel."""
    body = count(build(RESNET8X4, 100, SHAPE)) - 257 * 100
    inner = 256 // factor
    projector = 256 * inner + 9 * inner**2 + inner * 256 + 2 * (inner + inner + 256)
    assert count(joined(RESNET8X4, RESNET32X4, 100, factor=factor)) == body + projector + 257 * 100


@torch.no_grad()
def test_it_computes_what_its_parts_compute():
    network = joined(RESNET, RESNET8X4)
    student, teacher = build(RESNET, 5, SHAPE).eval(), build(RESNET8X4, 5, SHAPE).eval()
    network.begin_from(student)
    network.take_head(teacher)
    features = nn.Sequential(*list(student)[:-3])(images())
    assert features.shape == (2, 64, 8, 8)
    wanted = teacher.head(network.projector(features).mean((2, 3)))
    assert torch.equal(network(images()), wanted)


def test_the_body_begins_as_the_student_alone_and_the_head_does_not_learn():
    torch.manual_seed(3)
    network = joined(RESNET, RESNET8X4)
    torch.manual_seed(3)
    alone = build(RESNET, 5, SHAPE).state_dict()
    assert all(torch.equal(value, alone[name]) for name, value in network.student.state_dict().items())
    network.train()(images(4)).sum().backward()
    assert all(parameter.grad is None for parameter in network.head.parameters())
    assert all(parameter.grad is not None for parameter in network.student.parameters())
    assert not network.head.training and network.student.training


def test_a_file_of_weights_is_for_the_students_body(tmp_path):
    torch.manual_seed(1)
    student = build(RESNET, 7, SHAPE)  # of other classes, whose head is left out
    torch.save(student.state_dict(), tmp_path / "student.pt")
    description = {
        "_target_": "kdsweep.networks.reuse.TeachersHead",
        "_recursive_": False,
        "student": RESNET,
        "teacher": WRN,
    }
    network = build_initial(description, 5, SHAPE, tmp_path / "student.pt")
    given = student.state_dict()
    assert all(torch.equal(value, given[name]) for name, value in network.student.state_dict().items())


@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        (RESNET, WRN),
        (WRN, RESNET18),
        (RESNET, EFFICIENTNET),
        (RESNET18, RESNET),
        (OWN, RESNET),
        (VIT, RESNET),
    ],
    ids=["wrn", "torchvision", "timm", "torchvision student", "own", "transformer student"],
)
def test_networks_of_any_kind_are_joined(student, teacher):
    network = joined(student, teacher)
    assert network(images()).shape == (2, 5)
    network.take_head(build(teacher, 5, SHAPE))
    again = joined({**student}, teacher)
    again.load_state_dict(network.state_dict())
    assert torch.equal(again(images()), network(images()))


def test_a_generation_takes_the_head_of_one_that_took_it():
    first = {
        "_target_": "kdsweep.networks.reuse.TeachersHead",
        "_recursive_": False,
        "student": RESNET,
        "teacher": RESNET8X4,
    }
    network = joined(RESNET, first)
    assert network.head.in_features == 256
    assert network(images()).shape == (2, 5)


@torch.no_grad()
def test_threads_do_not_see_each_others_maps():
    network = joined(RESNET, WRN)
    batches = [images(1, seed) for seed in range(40)]
    with ThreadPoolExecutor(4) as threads:
        at_once = list(threads.map(lambda batch: torch.no_grad()(network)(batch), batches))
    assert all(torch.equal(network(batch), logits) for batch, logits in zip(batches, at_once, strict=True))


@pytest.mark.parametrize(
    ("student", "teacher", "options", "problem"),
    [
        (MLP, RESNET, {}, "the student has no tap map"),
        (RESNET, MLP, {}, "the teacher has no tap map"),
        (VGG, RESNET, {}, r"the student's network\.classifier\.0 comes after its last map"),
        (MOBILENET, RESNET, {}, "comes after its last map"),
        (RESNET, VGG, {}, "the teacher's head does not take the mean of its last map"),
        (RESNET, MOBILENET, {}, "the teacher's head does not take the mean of its last map"),
        (RESNET, CNN, {}, "the teacher's head does not take the mean of its last map"),
        (RESNET, WRN, {"factor": 0}, "factor=0: must be from 1 to 64"),
        (RESNET, WRN, {"factor": 65}, "factor=65: must be from 1 to 64"),
    ],
)
def test_networks_that_cannot_be_joined_are_refused(student, teacher, options, problem):
    with pytest.raises(ConfigError, match=f"^method.network.*{problem}"):
        joined(student, teacher, **options)
