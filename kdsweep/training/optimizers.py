"""torch's optimizers and schedules, by the names of a training recipe."""

import warnings
from collections.abc import Iterable

import torch
from torch import nn, optim
from torch.optim import lr_scheduler

from kdsweep.config import Training


def make_optimizer(parameters: Iterable[nn.Parameter], recipe: Training, rate: float) -> optim.Optimizer:
    """Fused: one pass over all parameters, on the CPU several times faster than one each."""
    parameters = [parameter for parameter in parameters if parameter.requires_grad]
    epsilon, decay = recipe.epsilon, recipe.weight_decay
    match recipe.optimizer:
        case "adam":
            return optim.Adam(parameters, rate, eps=epsilon, weight_decay=decay, fused=True)
        case "adamw":
            return optim.AdamW(parameters, rate, eps=epsilon, weight_decay=decay, fused=True)
        case "sgd":
            return optim.SGD(
                parameters, rate, recipe.momentum, weight_decay=decay, nesterov=recipe.nesterov, fused=True
            )


def make_schedule(
    optimizer: optim.Optimizer, recipe: Training, epochs: int, epoch: int
) -> lr_scheduler.LRScheduler:
    """The schedule over `epochs` epochs, stepped once in each, as it stands after `epoch` of them.

    It is replayed rather than stored: the same steps give the same rates, bit for bit.
    """
    schedule: lr_scheduler.LRScheduler
    match recipe.schedule:
        case "constant":
            schedule = lr_scheduler.ConstantLR(optimizer, factor=1)
        case "cosine":
            schedule = lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
        case "multistep":
            schedule = lr_scheduler.MultiStepLR(optimizer, recipe.milestones, recipe.gamma)
        case "exponential":
            schedule = lr_scheduler.ExponentialLR(optimizer, recipe.gamma)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no optimizer step comes between the replayed ones
        for _ in range(epoch):
            schedule.step()
    return schedule


def optimizer_tensors(optimizer: optim.Optimizer) -> dict[str, torch.Tensor]:
    """The optimizer's memory as flat, named tensors."""
    state = optimizer.state_dict()["state"]
    return {f"{index}.{name}": value for index, slot in state.items() for name, value in slot.items()
            if isinstance(value, torch.Tensor)}  # fmt: skip


def restore_optimizer(optimizer: optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """Put back what `optimizer_tensors` gave, in each parameter's own memory format."""
    parameters = optimizer.param_groups[0]["params"]
    for name, value in tensors.items():
        index, slot = name.split(".", 1)
        parameter = parameters[int(index)]
        if value.shape == parameter.shape:
            value = torch.empty_like(parameter).copy_(value)
        optimizer.state[parameter][slot] = value.to(parameter.device)
