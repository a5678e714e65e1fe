"""Learning from labels alone."""

from torch import Tensor
from torch.nn import functional as F

from kdsweep.methods import soft_labels


@soft_labels
def cross_entropy(student: Tensor, labels: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """CE(student, labels), averaged over the batch.

    With `smoothing` ε a label has the probability 1 - ε + ε / C, and each other class ε / C (Szegedy et al.
    2015, arXiv:1512.00567, section 7). Raises ValueError if ε is not in [0, 1).
    """
    _check(smoothing)
    return F.cross_entropy(student, labels, label_smoothing=smoothing)


@soft_labels
def binary_cross_entropy(student: Tensor, labels: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """BCE of the student's sigmoids and the labels, averaged over images and classes.

    `smoothing` as for cross_entropy.
    """
    _check(smoothing)
    wanted = (labels if labels.dim() == 2 else F.one_hot(labels, student.shape[-1])).to(student.dtype)
    wanted = wanted * (1 - smoothing) + smoothing / student.shape[-1]
    return F.binary_cross_entropy_with_logits(student, wanted)


def _check(smoothing: float) -> None:
    if not 0 <= smoothing < 1:
        raise ValueError(f"smoothing={smoothing}: must be 0 or more, and below 1")
