"""The optimizer and the schedule of a training recipe: callables by import path, torch's or others."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, optim
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from kdsweep.config import EPOCHS, Training
from kdsweep.training.components import called, located, options_of, wrong

FUSED = (optim.Adam, optim.AdamW, optim.SGD)  # on every device
WAYS = {"fused", "foreach", "differentiable"}  # of stepping, which a recipe may choose instead of fused
RATES = ("lr", "initial_lr")  # of a group; replaying the schedule sets them
NUMBER = ":number"  # ends the name of a number that is stored as a tensor


def make_optimizer(groups: Sequence[Mapping[str, Any]], recipe: Training, rate: float) -> optim.Optimizer:
    """An optimizer for groups of parameters, each with `params`, of which it takes those that learn.

    It is fused if possible: one pass over all parameters, several times faster on the CPU.
    """
    parts = [
        {**group, "params": [each for each in group["params"] if each.requires_grad]} for group in groups
    ]
    chosen = recipe.optimizer
    fusible = located("optimizer", chosen) in FUSED and not WAYS & options_of(chosen).keys()
    optimizer = called("optimizer", chosen, parts, lr=rate, **({"fused": True} if fusible else {}))
    if not isinstance(optimizer, optim.Optimizer):
        raise wrong("optimizer", chosen, f"gave {type(optimizer).__name__}, not a torch.optim.Optimizer")
    return optimizer


def make_schedule(optimizer: optim.Optimizer, recipe: Training, epochs: int, epoch: int) -> LRScheduler:
    """The schedule over `epochs` epochs, stepped once in each, after `epoch` of them.

    It is replayed instead of stored: the same steps give the same rates, bit for bit.
    """
    component = _with_epochs(recipe.schedule, epochs)
    schedule = called("schedule", component, optimizer)
    if not isinstance(schedule, LRScheduler):
        kind = "torch.optim.lr_scheduler.LRScheduler"
        raise wrong("schedule", component, f"gave {type(schedule).__name__}, not a {kind}")
    if isinstance(schedule, ReduceLROnPlateau):
        raise wrong("schedule", component, "follows a metric; a schedule here follows the epochs alone")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no optimizer step comes between the replayed ones
        for _ in range(epoch):
            schedule.step()
    return schedule


def _with_epochs(value: Any, epochs: int) -> Any:
    """A schedule with the number of epochs in place of the word for it."""
    if isinstance(value, Mapping):
        return {key: _with_epochs(each, epochs) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_with_epochs(each, epochs) for each in value]
    return epochs if value == EPOCHS else value


def optimizer_tensors(optimizer: optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's memory as flat, named tensors: that of its parameters, and what changed in its groups.

    Raises ValueError if it holds anything but tensors and numbers.
    """
    found: dict[str, Tensor] = {}
    for index, slot in optimizer.state_dict()["state"].items():
        for name, value in slot.items():
            if isinstance(value, Tensor | int | float):
                found |= _kept(f"{index}.{name}", value)
            elif value is not None:
                raise ValueError(f"its {name} is {type(value).__name__}, which a checkpoint cannot hold")
    for number, group in enumerate(optimizer.param_groups):
        for name, value in group.items():
            same = not isinstance(value, Tensor) and value == optimizer.defaults.get(name)
            if isinstance(value, Tensor | int | float) and not same and name not in RATES:
                found |= _kept(f"group{number}.{name}", value)
    return found


def _kept(name: str, value: Tensor | float) -> dict[str, Tensor]:
    """A number as a tensor without loss, under a name that marks it."""
    if isinstance(value, Tensor):
        return {name: value}
    return {f"{name}{NUMBER}": torch.tensor(value, dtype=torch.float64 if isinstance(value, float) else None)}


def restore_optimizer(optimizer: optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Restore what `optimizer_tensors` returned, in each parameter's own memory format."""
    groups = optimizer.param_groups
    owners = [(parameter, group) for group in groups for parameter in group["params"]]
    for name, tensor in tensors.items():
        place, slot = name.removesuffix(NUMBER).split(".", 1)
        value = tensor.item() if name.endswith(NUMBER) else tensor
        if place.startswith("group"):
            groups[int(place.removeprefix("group"))][slot] = value
            continue
        parameter, group = owners[int(place)]
        if isinstance(value, Tensor):
            value = _beside(value, parameter, group, slot)
        optimizer.state[parameter][slot] = value


def _beside(value: Tensor, parameter: Tensor, group: Mapping[str, Any], slot: str) -> Tensor:
    """A tensor of a parameter's memory on the device and in the format that the optimizer uses."""
    if value.shape == parameter.shape:
        value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
    if slot == "step" and not group.get("fused") and not group.get("capturable"):
        return value  # torch counts it on the CPU then
    return value.to(parameter.device)
