"""Probabilistic knowledge transfer (Passalis & Tefas 2018, arXiv:1803.10837), with cosines."""

from torch import Tensor

from kdsweep.methods import of_whole_batch
from kdsweep.methods.shapes import need_vectors
from kdsweep.methods.vectors import unit

EPSILON = 1e-7  # of the authors' code


@of_whole_batch
def pkt(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(P ‖ Q) of the probabilities with which images are neighbours, averaged over all pairs of images, B².

    P of the teacher and Q of the student are (cosine + 1) / 2 of embeddings [B, D], for each image divided by
    its sum over the batch, the image itself included. Raises ValueError for embeddings that are no [B, D].
    """
    need_vectors(student, teacher)
    # weights of 30,000 would multiply the rounding of a float32 sum
    ours, theirs = _neighbours(student.double()), _neighbours(teacher.double())
    divergence = theirs * ((theirs + EPSILON) / (ours + EPSILON)).log()
    return divergence.mean().to(student.dtype)


def _neighbours(embeddings: Tensor) -> Tensor:
    """[B, B], rows of sum 1."""
    directions = unit(embeddings)
    similarities = (directions @ directions.T + 1) / 2
    return similarities / similarities.sum(1, keepdim=True)
