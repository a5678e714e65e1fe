"""The parts of a network that training and loading speak of."""

from torch import nn


def layers(network: nn.Module) -> list[nn.Module]:
    """The modules with weights of their own, in order."""
    return [module for module in network.modules() if any(True for _ in module.parameters(recurse=False))]


def head_of(network: nn.Module) -> nn.Module:
    """What turns features into logits: the network's `head`, else its last layer with weights."""
    head = getattr(network, "head", None)
    return head if isinstance(head, nn.Module) else layers(network)[-1]


def is_sequence(network: nn.Module) -> bool:
    """Whether a network does nothing but run its children one after the other."""
    return type(network).forward is nn.Sequential.forward
