"""NormKD: normalized logits (Chi et al. 2023, arXiv:2308.00520)."""

from torch import Tensor

EPSILON = 1e-7  # so that equal logits can be divided by their deviation


def normkd(student: Tensor, teacher: Tensor, *, temperature: float | Tensor) -> Tensor:
    """τ_t² · KL(softmax(t / τ_t) ‖ softmax(s / τ_s)) of logits [B, C], averaged over the batch.

    Each image has temperatures of its own, τ_t = T · std(t) and τ_s = T · std(s); the deviation is that with
    C - 1, and the student's has a gradient.
    """
    scales = [temperature * (each.double().std(-1, keepdim=True) + EPSILON) for each in (teacher, student)]
    target, softened = (
        (each.double() / scale).log_softmax(-1)
        for each, scale in zip((teacher, student), scales, strict=True)
    )
    divergence = scales[0] ** 2 * target.exp() * (target - softened)
    return divergence.sum(-1).mean().clamp(min=0).to(student.dtype)
