"""Normalized knowledge distillation (Yang et al. 2023, arXiv:2303.13005)."""

from torch import Tensor
from torch.nn import functional as F

from kdsweep.methods import soft_labels
from kdsweep.methods.logits.dkd import decoupled


@soft_labels
def nkd(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    *,
    temperature: float | Tensor,
    gamma: float | Tensor,
) -> Tensor:
    """− q_y · log p_y − gamma · T² · Σ q̂_T · log p̂_T of logits [B, C], averaged over the batch.

    p and q are the student's and the teacher's probabilities at T = 1; p̂_T and q̂_T those of the classes which
    are not the label, normalized among themselves, at T. Both sums are cross-entropies: for equal networks
    the loss is not 0, and neither is the gradient of its first part. The label of a mixed image is that of
    the larger share, as in the authors' code.
    """
    labels = labels.argmax(-1) if labels.dim() == 2 else labels
    student, teacher, dtype = student.double(), teacher.double(), student.dtype
    of_label = F.one_hot(labels, student.shape[-1]).bool()
    target = teacher.softmax(-1) * student.log_softmax(-1) * of_label
    _, ours = decoupled(student / temperature, of_label)
    _, theirs = decoupled(teacher / temperature, of_label)
    others = theirs.exp() * ours.masked_fill(of_label, 0)
    loss = -(target + gamma * temperature**2 * others).sum(-1).mean()
    return loss.to(dtype)
