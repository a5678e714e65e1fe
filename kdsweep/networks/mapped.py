"""Networks that give something else than the logits of the data's classes, as these or as embeddings."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from kdsweep.errors import ConfigError
from kdsweep.networks import CLASSES, EMBEDDINGS, GIVES, PROBABILITIES
from kdsweep.networks.backbone import Backbone


def given_logits(outputs: Tensor, model: Mapping[str, Any]) -> Tensor:
    """The logits [B, C] of the data's classes, from what the network of a description gives, [B, outputs].

    Probabilities become their logarithms. A class for which several outputs stand has the logarithm of their
    summed probabilities, up to the constant that all logits of an image share. Raises ConfigError for
    probabilities that are none, and for another number of outputs.
    """
    if model.get(GIVES) == PROBABILITIES:
        if not (outputs.ge(-1e-4).all() and outputs.sum(dim=1).sub(1).abs().le(1e-2).all()):
            raise ConfigError("gives numbers that are no probabilities: they must be 0 or more and sum to 1")
        outputs = outputs.clamp_min(torch.finfo(torch.float32).tiny).log()
    classes = model.get(CLASSES)
    if classes is None:
        return outputs
    if outputs.shape[1:] != (classes["outputs"],):
        given = "×".join(map(str, outputs.shape[1:]))
        raise ConfigError(f"gives {given} outputs, and classes names {classes['outputs']}")
    return torch.stack([outputs[:, list(members)].logsumexp(dim=1) for members in classes["of"]], dim=1)


def adapt(network: nn.Module, model: Mapping[str, Any]) -> None:
    """Let a network, built without them, give what the marks of its description say.

    The names of its tensors and modules stay. A network without a head is `headless`; of a library's network
    the head is replaced by the identity.
    """
    if model.get(GIVES) == EMBEDDINGS:
        network.headless = True  # type: ignore[assignment]
        for name in network.classifiers if isinstance(network, Backbone) else ():
            network.set_submodule(name, nn.Identity())
    elif GIVES in model or CLASSES in model:
        network.register_forward_hook(lambda module, inputs, outputs: given_logits(outputs, model))


def is_headless(network: nn.Module) -> bool:
    """Whether a network's outputs are embeddings."""
    return getattr(network, "headless", False) is True
