"""Several teachers that act as one: their outputs are averaged before any term looks at them."""

from collections.abc import Sequence
from math import log

import torch
from torch import Tensor

from kdsweep.methods.term import Outputs
from kdsweep.stage import TERMS, Average


def as_one(teachers: Sequence[Outputs], average: Average) -> Sequence[Outputs]:
    """The teachers that the terms of a loss meet: all, or the one that they are together."""
    if average.of == TERMS or len(teachers) == 1:
        return teachers
    return [Outputs(averaged([teacher.logits for teacher in teachers], average))]


def averaged(logits: Sequence[Tensor], average: Average) -> Tensor:
    """The logits [N, C] of several networks together, up to a constant for each image: the logarithm of their
    mean probabilities, or their mean logits."""
    shares = average.shares(len(logits))
    if average.of == "logits":
        return torch.stack([each * share for each, share in zip(logits, shares, strict=True)]).sum(dim=0)
    logs = [each.log_softmax(dim=1) + log(share) for each, share in zip(logits, shares, strict=True)]
    return torch.stack(logs).logsumexp(dim=0)
