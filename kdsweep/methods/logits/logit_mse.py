"""Matching logits (Buciluă, Caruana & Niculescu-Mizil 2006; Ba & Caruana 2014, arXiv:1312.6184)."""

from torch import Tensor
from torch.nn import functional as F

from kdsweep.methods.weighted import weighted


def logit_mse(
    student: Tensor, teacher: Tensor, labels: Tensor, *, alpha: float | Tensor
) -> dict[str, Tensor]:
    """alpha · CE(student, labels) + (1 - alpha) · mean squared difference of the logits.

    `student` are logits [B, C], `teacher` [B, C] or, of several teachers, [P, B, C]; the mean is over images
    and classes, and over the teachers. Gives "loss" and, unweighted, "labels" and "teacher".
    """
    return weighted(F.cross_entropy(student, labels), (student - teacher).square().mean(), alpha)
