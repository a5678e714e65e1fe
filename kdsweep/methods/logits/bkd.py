"""Binary distillation, of students trained by binary cross-entropy (Hao et al. 2023, arXiv:2305.15781)."""

from torch import Tensor
from torch.nn import functional as F


def bkd(student: Tensor, teacher: Tensor) -> Tensor:
    """BCE of the student's sigmoids and softmax(t), of logits [B, C], averaged over images and classes."""
    return F.binary_cross_entropy_with_logits(student, teacher.softmax(-1))
