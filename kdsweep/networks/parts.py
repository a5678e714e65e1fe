"""The parts of a network that training and loading distinguish: layers and head."""

from torch import nn


def layers(network: nn.Module) -> list[nn.Module]:
    """The modules with their own weights, in order; those of a network's `head` come last."""
    weighty = [module for module in network.modules() if any(True for _ in module.parameters(recurse=False))]
    head = getattr(network, "head", None)
    last = set(head.modules()) if isinstance(head, nn.Module) else set()
    return sorted(weighty, key=lambda module: module in last)


def head_of(network: nn.Module) -> nn.Module:
    """The part that turns features into logits: the network's `head`, else its last layer with weights."""
    head = getattr(network, "head", None)
    return head if isinstance(head, nn.Module) else layers(network)[-1]


def head_names(network: nn.Module) -> list[str]:
    """The names of the modules of `head_of`; "" is the network itself."""
    if not layers(network):
        return []
    head = head_of(network)
    found = [name for name, module in network.named_modules() if module is head]
    return found or list(network.classifiers)  # type: ignore[arg-type]


def is_sequence(network: nn.Module) -> bool:
    """Whether a network only runs its children one after the other."""
    return type(network).forward is nn.Sequential.forward
