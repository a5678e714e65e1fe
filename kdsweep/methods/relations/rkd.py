"""Relational knowledge distillation (Park et al. 2019, arXiv:1904.05068), of distances and angles."""

from torch import Tensor
from torch.nn import functional as F

from kdsweep.methods import of_whole_batch
from kdsweep.methods.shapes import need_vectors
from kdsweep.methods.vectors import over, unit


@of_whole_batch
def rkd(student: Tensor, teacher: Tensor, *, distance: float, angle: float) -> Tensor:
    """`distance` times the loss of distances plus `angle` times that of angles, of embeddings [B, D].

    Both are the smooth L1 difference (a Huber loss with threshold 1) of the networks' relations: over all
    pairs of images their distances, divided by the mean of those that are not 0, averaged over B²; over all
    triples the cosine of the angle at an image between two others, averaged over B³. A weight of 0 saves the
    B³ numbers. Raises ValueError for embeddings that are no [B, D].
    """
    need_vectors(student, teacher)
    ours, theirs = _differences(student), _differences(teacher)
    loss = distance * F.smooth_l1_loss(_distances(ours), _distances(theirs))
    return loss + angle * F.smooth_l1_loss(_cosines(ours), _cosines(theirs)) if angle else loss


def _differences(embeddings: Tensor) -> Tensor:
    """[B, B, D]: from each image to each. Norms of these are exact where |a|² + |b|² − 2ab would cancel."""
    return embeddings[None] - embeddings[:, None]


def _distances(differences: Tensor) -> Tensor:
    lengths = differences.norm(dim=-1)
    apart = (lengths > 0).sum().clamp(min=1)
    return over(lengths, lengths.sum() / apart)


def _cosines(differences: Tensor) -> Tensor:
    """[B, B, B]: at each image, between two others; 0 where one of these is the image itself."""
    directions = unit(differences)
    return directions @ directions.mT
