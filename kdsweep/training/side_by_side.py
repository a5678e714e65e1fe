"""The weights of several networks as one tensor per parameter, and one optimizer for all of them."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, optim

from kdsweep.training.components import located
from kdsweep.training.member import Member
from kdsweep.training.optimizers import make_optimizer

# what they do to a number depends on no other number, so networks may lie side by side
ELEMENTWISE = (
    optim.Adadelta,
    optim.Adagrad,
    optim.Adam,
    optim.Adamax,
    optim.AdamW,
    optim.NAdam,
    optim.RAdam,
    optim.RMSprop,
    optim.Rprop,
    optim.SGD,
)
COUNTERS = ("step", "mu_product")  # of a parameter, in these optimizers; all else has its shape


def stack(tensors: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors of several networks by name, [networks, …]; each network's become views of its part."""
    stacked = {}
    for name, first in tensors[0].items():
        each = [mapping[name] for mapping in tensors]
        together = _side_by_side([tensor.detach() for tensor in each])
        for place, tensor in enumerate(each):
            tensor.data = together[place]
        stacked[name] = together.requires_grad_(first.requires_grad)
    return stacked


def _side_by_side(tensors: Sequence[Tensor]) -> Tensor:
    """[N, …], each in the memory format that it had."""
    if tensors[0].dim() == 4 and tensors[0].is_contiguous(memory_format=torch.channels_last):
        return torch.stack([each.permute(0, 2, 3, 1) for each in tensors]).permute(0, 1, 4, 2, 3)
    return torch.stack(list(tensors))


def rates(member: Member) -> tuple[float, float]:
    """The numbers of its optimizer in which members may differ. Rates that a schedule makes equal for some
    epochs, as at the end of a cosine, are not equal."""
    return member.phase.learning_rate, member.optimizer.param_groups[0].get("weight_decay", 0)


def is_elementwise(member: Member) -> bool:
    """Whether its optimizer may take a step for several networks at once."""
    return located("optimizer", member.recipe.optimizer) in ELEMENTWISE


class StackedOptimizer:
    """Takes the step of each member's optimizer, by its rates and its memory, at once.

    `members` come in the order of their rates, so that those with equal ones are one group of parameters.
    """

    def __init__(self, members: Sequence[Member], weights: Mapping[str, Tensor]) -> None:
        self.members, recipe = members, members[0].recipe
        self.weights = [weight for weight in weights.values() if weight.requires_grad]
        places = [list(run) for _, run in groupby(range(len(members)), lambda place: rates(members[place]))]
        self.runs = [slice(run[0], run[-1] + 1) for run in places]
        self.parts = [[weight.detach()[run].requires_grad_() for weight in self.weights] for run in self.runs]
        rate = recipe.learning_rate
        self.optimizer = make_optimizer([{"params": part} for part in self.parts], recipe, rate)
        for run, parts in zip(self.runs, self.parts, strict=True):
            for number, part in enumerate(parts):
                memories = [member.optimizer.state[_learned(member)[number]] for member in members[run]]
                self.optimizer.state[part] |= {
                    name: value if name in COUNTERS else _side_by_side([each[name] for each in memories])
                    for name, value in memories[0].items()
                }

    def follow(self) -> None:
        """Take the rates that the members' schedules have set."""
        for run, group in zip(self.runs, self.optimizer.param_groups, strict=True):
            own = self.members[run][0].optimizer.param_groups[0]
            group.update({name: value for name, value in own.items() if name != "params"})
        for member in self.members:
            member.optimizer.step()  # does nothing without gradients; else torch's schedules warn

    def step(self, loss: Tensor, clip_norm: float | None) -> None:
        """An update of all networks by the gradients of `loss`, the sum of theirs."""
        for weight in self.weights:
            weight.grad = None
        loss.backward()
        gradients = [weight.grad for weight in self.weights if weight.grad is not None]
        if clip_norm:
            _clip(gradients, clip_norm)
        for run, parts in zip(self.runs, self.parts, strict=True):
            for weight, part in zip(self.weights, parts, strict=True):
                part.grad = None if weight.grad is None else weight.grad[run]
        self.optimizer.step()

    def share(self) -> None:
        """Make the memory of each member's optimizer a view of its part, which a checkpoint then saves."""
        for run, parts in zip(self.runs, self.parts, strict=True):
            for number, part in enumerate(parts):
                memory: dict[str, Any] = self.optimizer.state[part]
                for place, member in enumerate(self.members[run]):
                    member.optimizer.state[_learned(member)[number]] = {
                        name: value if name in COUNTERS or value is None else value[place]
                        for name, value in memory.items()
                    }


def _learned(member: Member) -> Sequence[Tensor]:
    parameters: Sequence[Tensor] = member.optimizer.param_groups[0]["params"]
    return parameters


def _clip(gradients: Sequence[Tensor], norm: float) -> None:
    """Shorten each network's gradients as torch.nn.utils.clip_grad_norm_ does."""
    lengths = torch.stack([each.reshape(len(each), -1).norm(dim=1) for each in gradients]).norm(dim=0)
    factors = (norm / (lengths + 1e-6)).clamp(max=1)
    for each in gradients:
        each *= factors.view(-1, *[1] * (each.dim() - 1))
