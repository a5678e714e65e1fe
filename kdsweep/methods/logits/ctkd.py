"""Curriculum temperature: kd with a global T that learns (Li et al. 2022, arXiv:2211.16231)."""

from math import cos, pi
from typing import Any

import torch
from torch import Tensor, nn

from kdsweep.methods.logits.kd import kd


class CTKD(nn.Module):
    """kd's loss of logits [B, C] at a temperature T = low + span · σ(θ), whose θ learns to raise the loss.

    The gradient of θ, which begins at `theta`, is multiplied by λ, which falls from 0 to -1 as half a cosine
    in the first `ramp` epochs. T has a gradient everywhere in the loss: in T², the student and the teacher.
    `figures` has the temperature.
    """

    def __init__(
        self, *, theta: float = 1.0, low: float = 1.0, span: float = 20.0, ramp: float = 10.0
    ) -> None:
        super().__init__()
        self.low, self.span, self.ramp = low, span, ramp
        self.theta = nn.Parameter(torch.tensor(float(theta)))

    def forward(self, student: Tensor, teacher: Tensor, epoch: int) -> Tensor:
        theta: Tensor = _Scaled.apply(self.theta, self.scale(epoch))
        return kd(student, teacher, temperature=self._temperature(theta))

    @property
    def figures(self) -> dict[str, Tensor]:
        return {"temperature": self._temperature(self.theta.detach())}

    def scale(self, epoch: int) -> float:
        """λ in an epoch, from 1."""
        return (cos(pi * min(epoch / self.ramp, 1)) - 1) / 2 if self.ramp else -1.0

    def _temperature(self, theta: Tensor) -> Tensor:
        return self.low + self.span * theta.sigmoid()


class _Scaled(torch.autograd.Function):
    """A tensor as it is, whose gradient is multiplied."""

    @staticmethod
    def forward(context: Any, value: Tensor, scale: float) -> Tensor:
        context.scale = scale
        return value.view_as(value)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return context.scale * gradient, None
