"""Knowledge distillation from softened outputs (Hinton, Vinyals & Dean 2015, arXiv:1503.02531, section 2)."""

from torch import Tensor
from torch.nn import functional as F

from kdsweep.methods.weighted import weighted


def kd(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    *,
    temperature: float | Tensor,
    alpha: float | Tensor,
    scale_by_temperature_squared: bool = True,
) -> dict[str, Tensor]:
    """alpha · CE(student, labels) + (1 - alpha) · T² · KL(teacher_T ‖ student_T).

    `student` are logits [B, C], `teacher` [B, C] or, of several teachers, [P, B, C], `labels` int64 [B]. KL
    is summed over classes and averaged over the batch, and over the teachers. T² keeps the gradient's size
    while T grows; the older form leaves it out. `temperature` and `alpha` may be tensors without dimensions.
    Gives "loss" and, unweighted, "labels" and "teacher", which are never negative.
    """
    # in float64, for KL shrinks as 1 / T² and the rounding of its sum does not: of float32's, T² makes 0.01
    softened = F.log_softmax(student.double() / temperature, dim=-1)
    target = F.log_softmax(teacher.double() / temperature, dim=-1)
    # F.kl_div says the same, but has no batching rule for several students at once
    divergence = (target.exp() * (target - softened)).sum(dim=-1).mean().clamp(min=0)
    from_teacher = divergence.to(student.dtype)
    if scale_by_temperature_squared:
        from_teacher = from_teacher * temperature**2
    return weighted(F.cross_entropy(student, labels), from_teacher, alpha)
