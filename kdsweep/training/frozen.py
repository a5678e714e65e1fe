"""Training a part of a network: what is frozen learns nothing and stays in eval mode."""

from collections.abc import Sequence

from torch import nn

from kdsweep.models.anatomy import head_of, is_sequence, layers


def freeze(network: nn.Module, trainable: int | str, learnable: Sequence[nn.Parameter]) -> None:
    """Of the `learnable`, let only `trainable` learn: "all", "head", or a number of last layers."""
    parts: Sequence[nn.Module] = [network]
    if trainable != "all":
        parts = [head_of(network)] if trainable == "head" else layers(network)[-int(trainable) :]
    chosen = {id(parameter) for part in parts for parameter in part.parameters()}
    for parameter in learnable:
        parameter.requires_grad_(id(parameter) in chosen)


def train(network: nn.Module, trainable: int | str) -> None:
    """Train mode, but eval mode for what comes before the first layer that learns: no dropout there, and
    BatchNorm's statistics do not move."""
    network.train()
    if trainable == "all":
        return
    for module in network.modules():
        if any(parameter.requires_grad for parameter in module.parameters(recurse=False)):
            break
        if not any(parameter.requires_grad for parameter in module.parameters()):
            module.eval()


def cut(network: nn.Module) -> tuple[nn.Module, nn.Module] | None:
    """The front that learns nothing and the rest, of a network that runs its children in sequence."""
    if not is_sequence(network):
        return None
    children = list(network.children())
    learning = [any(p.requires_grad for p in child.parameters()) for child in children]
    first = learning.index(True)
    if not any(True for child in children[:first] for _ in child.parameters()):
        return None
    return nn.Sequential(*children[:first]), nn.Sequential(*children[first:])
