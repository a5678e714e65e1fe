"""Hard-label distillation (Touvron et al. 2020, arXiv:2012.12877, equation 3), with one head."""

from torch import Tensor
from torch.nn import functional as F


def hard(student: Tensor, teacher: Tensor) -> Tensor:
    """CE of the student and the class that the teacher prefers, of logits [B, C], averaged over the batch."""
    return F.cross_entropy(student, teacher.argmax(-1))
