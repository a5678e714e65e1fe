"""Optimizers and schedules by import path: what they are given, what they remember, what is refused."""

import math

import pytest
import torch
from helpers import Command, composed, make_stage, optimizer, schedule
from planning import keys
from torch import Tensor, nn

from kdsweep.config import Training
from kdsweep.config.parse import parse
from kdsweep.errors import ConfigError
from kdsweep.training.optimizers import make_optimizer, make_schedule, optimizer_tensors, restore_optimizer
from kdsweep.training.recipe_check import check_recipe

LAMB = {"_target_": "timm.optim.Lamb"}
KINDS = {
    "Adam": optimizer("Adam"),
    "SGD": optimizer("SGD", momentum=0.9),
    "RAdam": optimizer("RAdam"),
    "NAdam": optimizer("NAdam"),
    "ASGD": optimizer("ASGD"),
    "Lamb": LAMB,
}


def recipe(**changes: object) -> Training:
    return make_stage(**changes).training


def refused(**changes: object) -> list[str]:
    with pytest.raises(ConfigError) as error:
        check_recipe(recipe(**changes))
    return str(error.value).splitlines()


def rates(described: dict[str, object], epochs: int) -> list[float]:
    made = make_optimizer([{"params": [nn.Parameter(torch.ones(2))]}], recipe(), 0.5)
    steps = make_schedule(made, recipe(schedule=described), epochs, 0)
    found = []
    for _ in range(epochs):
        found.append(made.param_groups[0]["lr"])
        made.step()
        steps.step()
    return found


def groups() -> list[dict[str, list[nn.Parameter]]]:
    """Those of a network, one of which is frozen, and of an adapter."""
    torch.manual_seed(0)
    network = [nn.Parameter(torch.randn(shape)) for shape in ((3, 2), (3,), (4, 3, 2, 2))]
    network[1].requires_grad = False
    network[2].data = network[2].data.contiguous(memory_format=torch.channels_last)
    return [{"params": network}, {"params": [nn.Parameter(torch.randn(2, 2))]}]


def step(made: torch.optim.Optimizer, number: int) -> None:
    drawn = torch.Generator().manual_seed(number)
    for group in made.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.empty_like(parameter).copy_(torch.randn(parameter.shape, generator=drawn))
    made.step()


def trained(parts: list[dict[str, list[nn.Parameter]]], kind: str, memory: dict[str, Tensor], *steps: int):
    made = make_optimizer(parts, recipe(optimizer=KINDS[kind]), 0.1)
    restore_optimizer(made, memory)
    for number in steps:
        step(made, number)
    return optimizer_tensors(made)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_remembered_of_several_groups_goes_on_bit_for_bit(kind):
    whole, halves = groups(), groups()
    expected = trained(whole, kind, {}, 0, 1, 2, 3)
    memory = trained(halves, kind, {}, 0, 1)
    assert expected.keys() == memory.keys() and any(name.startswith("2.") for name in memory)
    found = trained(halves, kind, memory, 2, 3)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    for part, other in zip(whole, halves, strict=True):
        assert all(map(torch.equal, part["params"], other["params"]))


def test_parameters_that_do_not_learn_are_left_out():
    parts = groups()
    made = make_optimizer(parts, recipe(), 0.1)
    assert [len(group["params"]) for group in made.param_groups] == [2, 1]
    for parameter in parts[1]["params"]:
        parameter.requires_grad = False
    made = make_optimizer(parts, recipe(), 0.1)
    step(made, 0)
    assert [len(group["params"]) for group in made.param_groups] == [2, 0]


@pytest.mark.parametrize("name", ["Adam", "AdamW", "SGD"])
def test_a_step_is_one_pass_over_all_parameters(name):
    made = make_optimizer(groups(), recipe(optimizer=optimizer(name)), 0.1)
    assert made.defaults["fused"] is True
    made = make_optimizer(groups(), recipe(optimizer=optimizer(name, foreach=True)), 0.1)
    assert not made.defaults["fused"]


def test_the_word_epochs_is_the_number_of_those_of_the_phase():
    cosine = schedule("CosineAnnealingLR", T_max="epochs")
    for epochs in (4, 10):
        expected = [0.25 * (1 + math.cos(math.pi * epoch / epochs)) for epoch in range(epochs)]
        assert rates(cosine, epochs) == pytest.approx(expected)
        assert rates({**cosine, "T_max": 4}, epochs)[:4] == pytest.approx(rates(cosine, 4))
    assert rates(schedule("MultiStepLR", milestones=[1, "epochs"]), 3) == pytest.approx([0.5, 0.05, 0.05])


def test_warm_up_and_cosine():
    described = {"_target_": "kdsweep.training.schedules.warmup_cosine", "epochs": "epochs", "warmup": 4}
    found = rates({**described, "start_factor": 0.2}, 12)
    assert found[:5] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert found[5:] == pytest.approx([0.25 * (1 + math.cos(math.pi * i / 8)) for i in range(1, 8)])
    assert rates(described, 3) == pytest.approx([0.05, 0.1625, 0.275]), "a phase may end within the warm-up"
    assert rates({**described, "warmup": 0}, 4) == pytest.approx(
        rates(schedule("CosineAnnealingLR", T_max=4), 4)
    )


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "radam", "lamb", "keras_adam"])
@pytest.mark.parametrize("phase", ["constant", "cosine", "warmup_cosine", "exponential", "polynomial"])
def test_what_is_shipped_can_be_trained_with(name, phase):
    check_recipe(parse(composed(f"training/optimizer={name}", f"training/schedule={phase}")).training)


MISTAKES = {
    "an option of another optimizer": (
        {"optimizer": optimizer("SGD", betas=[0.9, 0.99])},
        "optimizer.betas: no such key; allowed: dampening, differentiable, foreach, fused, maximize, "
        "momentum, nesterov, weight_decay",
    ),
    "a misspelt option": (
        {"optimizer": optimizer("Adam", weight_decai=1)},
        "optimizer.weight_decai: no such key; did you mean optimizer.weight_decay?",
    ),
    "a text": ({"optimizer": optimizer("Adam", eps="small")}, "optimizer.eps=small: must be a number"),
    "a wrong value": (
        {"optimizer": optimizer("SGD", momentum=-1)},
        "optimizer._target_=torch.optim.SGD: ValueError: Invalid momentum value: -1",
    ),
    "options that exclude each other": (
        {"optimizer": optimizer("SGD", nesterov=True)},
        "optimizer._target_=torch.optim.SGD: ValueError: Nesterov momentum requires a momentum and zero "
        "dampening",
    ),
    "an option that is needed": (
        {"schedule": schedule("StepLR")},
        "schedule.step_size is missing: torch.optim.lr_scheduler.StepLR needs it",
    ),
    "no optimizer": (
        {"optimizer": {"_target_": "builtins.list"}, "schedule": schedule("ConstantLR")},
        "optimizer._target_=builtins.list: TypeError: list() takes no keyword arguments",
    ),
    "no schedule": (
        {"schedule": {"_target_": "fractions.Fraction"}},
        "schedule._target_=fractions.Fraction: TypeError: argument should be a string or a Rational instance",
    ),
    "a schedule that follows a metric": (
        {"schedule": schedule("ReduceLROnPlateau")},
        "schedule._target_=torch.optim.lr_scheduler.ReduceLROnPlateau: follows a metric; a schedule here "
        "follows the epochs alone",
    ),
    "a schedule that ends too early": (
        {"schedule": schedule("OneCycleLR", max_lr=0.1, total_steps=3)},
        "schedule._target_=torch.optim.lr_scheduler.OneCycleLR: ValueError: Tried to step 4 times. The "
        "specified number of total steps is 3",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line(name):
    changes, line = MISTAKES[name]
    assert refused(**changes) == [line]
    assert refused(**changes) == [line], "again, though each is tried once"


@pytest.mark.parametrize("target", ["torch.optim.Sgd", "no_such_module.Own"])
def test_an_import_path_that_leads_nowhere(target):
    (line,) = refused(optimizer={"_target_": target})
    assert line.startswith(f"optimizer._target_={target}: ImportError: Error loading '{target}'")


def test_an_optimizer_that_cannot_be_stepped_alone():
    (line,) = refused(optimizer=optimizer("LBFGS"))
    assert line.startswith("optimizer._target_=torch.optim.LBFGS: TypeError: ") and "closure" in line


OWN = """
from torch.optim import SGD


class Half(SGD):
    def __init__(self, params, lr=1.0, momentum=0.5):
        super().__init__(params, lr, momentum)
"""


def test_an_optimizer_of_ones_own_is_in_the_key_by_its_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "own_optimizer.py"
    file.write_text(OWN)

    own = tmp_path / "conf" / "training" / "optimizer" / "half.yaml"
    own.parent.mkdir(parents=True)

    def key(options: str = "") -> str:
        own.write_text(f"_target_: own_optimizer.Half\n{options}")
        search = f"hydra.searchpath=[file://{tmp_path / 'conf'}]"
        return keys(search, "training/optimizer=half", "method=scratch")["student"]

    left_out = key()
    assert left_out == key("momentum: 0.5") != key("momentum: 0.6")
    file.write_text(OWN + "# edited")
    assert key() != left_out


def test_mistakes_are_refused_before_anything_is_trained(kdsweep: Command, tmp_path):
    wrong = ("training/optimizer=sgd", "training.optimizer.momentum=-1", "teacher/training=same")
    told = kdsweep("-m", "alpha=0.1,0.5", *wrong, status=1).stderr
    assert "training.optimizer._target_=torch.optim.SGD: ValueError: Invalid momentum value: -1" in told
    assert "teacher.training" not in told, "it repeats the student's"
    assert not list(tmp_path.glob("kdsweep-store/*/stage.json"))
    own = ("+teacher.training.optimizer.momentum=0.9",)
    told = kdsweep(*own, status=1).stderr
    assert "teacher.training.optimizer.momentum: no such key; allowed: amsgrad, betas, " in told
