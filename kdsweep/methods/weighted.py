"""The sum of what labels and teacher say."""

from torch import Tensor


def weighted(labels: Tensor, teacher: Tensor, alpha: float | Tensor) -> dict[str, Tensor]:
    """alpha · labels + (1 - alpha) · teacher as "loss", and both, unweighted.

    Of two losses, the one without weight is as if it were not there, even if it is no number; only an `alpha`
    that is a tensor is not looked at.
    """
    if isinstance(alpha, Tensor) or 0 < alpha < 1:
        loss = alpha * labels + (1 - alpha) * teacher
    else:
        loss = labels if alpha == 1 else teacher
    return {"loss": loss, "labels": labels, "teacher": teacher}
