"""Losses as pure functions of tensors, by the names that a Stage's objective gives them.

An objective is `(student, teacher, labels, **options) -> {"loss": scalar, parts…}`, where `student` and
`teacher` are logits [B, C], those of several teachers [P, B, C], and `labels` int64 [B].
"""

from collections.abc import Callable
from functools import partial

from torch import Tensor

from kdsweep.methods.labels import cross_entropy
from kdsweep.methods.logits.kd import kd
from kdsweep.methods.logits.logit_mse import logit_mse
from kdsweep.stage import Objective

OBJECTIVES: dict[str, Callable[..., dict[str, Tensor]]] = {
    "cross_entropy": cross_entropy,
    "kd": kd,
    "logit_mse": logit_mse,
}


def bind(objective: Objective) -> Callable[[Tensor, Tensor | None, Tensor], dict[str, Tensor]]:
    """The function of outputs and labels that `objective` describes."""
    return partial(OBJECTIVES[objective.name], **objective.options)
