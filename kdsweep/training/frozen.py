"""Train a part of a network: frozen parts learn nothing and stay in eval mode."""

from collections.abc import Iterator, Sequence

from torch import nn

from kdsweep.networks.backbone import Backbone
from kdsweep.networks.parts import head_of, is_sequence, layers


def freeze(network: nn.Module, trainable: int | str, learnable: Sequence[nn.Parameter]) -> None:
    """Let only `trainable` of the `learnable` parameters learn: "all", "head", or a number of last layers."""
    parts: Sequence[nn.Module] = [network]
    if trainable != "all":
        parts = [head_of(network)] if trainable == "head" else layers(network)[-int(trainable) :]
    chosen = {id(parameter) for part in parts for parameter in part.parameters()}
    for parameter in learnable:
        parameter.requires_grad_(id(parameter) in chosen)


def train(network: nn.Module) -> None:
    """Train mode, but eval mode for frozen parts: their statistics stay, and their front has no dropout."""
    network.train()
    modules = list(network.modules())
    front = _front(modules, recurse=False)
    for number, module in enumerate(modules):
        # a library may declare a layer of the body after the head
        frozen = number < front or any(True for _ in module.parameters(recurse=False))
        if frozen and not _learns(module):
            module.eval()


def cut(network: nn.Module) -> tuple[nn.Module, nn.Module] | None:
    """The frozen front and the rest of a backbone whose head alone learns, or of a network that runs its
    children in sequence.

    Layers without parameters after the last frozen one belong to the front too, except dropout.
    """
    if isinstance(network, Backbone):
        return _cut_backbone(network)
    if not isinstance(network, nn.Sequential) or not is_sequence(network):
        return None
    children = list(_in_sequence(network))
    end = _front(children, recurse=True)
    if end == 0:
        return None
    while end < len(children) and not _learns(children[end]) and not drops(children[end]):
        end += 1
    return nn.Sequential(*children[:end]), nn.Sequential(*children[end:])


def _in_sequence(network: nn.Sequential) -> Iterator[nn.Module]:
    """The modules that run one after the other, through nested sequences."""
    for child in network:  # children() would skip a module that occurs twice
        if is_sequence(child):
            yield from _in_sequence(child)  # type: ignore[arg-type]
        else:
            yield child


def _cut_backbone(network: Backbone) -> tuple[nn.Module, nn.Module] | None:
    head = {id(parameter) for parameter in network.head.parameters()}
    body = [parameter for parameter in network.parameters() if id(parameter) not in head]
    if not any(parameter.requires_grad for parameter in body):
        return network.halves()
    if all(parameter.requires_grad for parameter in body):
        return None
    sequence = network.in_sequence()
    return cut(sequence) if sequence else None


def _front(modules: Sequence[nn.Module], recurse: bool) -> int:
    """How many modules lead up to the last frozen one before the first that learns."""
    end = 0
    for i, module in enumerate(modules, start=1):
        parameters = list(module.parameters(recurse))
        if any(parameter.requires_grad for parameter in parameters):
            break
        if parameters:
            end = i
    return end


def _learns(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


def drops(module: nn.Module) -> bool:
    """Whether it is or contains one of torch's dropouts."""
    return any(isinstance(part, nn.modules.dropout._DropoutNd) for part in module.modules())
