"""Knowledge distillation from softened outputs (Hinton, Vinyals & Dean 2015, arXiv:1503.02531, section 2)."""

from torch import Tensor
from torch.nn import functional as F


def kd(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: float | Tensor,
    scale_by_temperature_squared: bool = True,
) -> Tensor:
    """T² · KL(teacher_T ‖ student_T) of logits [B, C], summed over classes, averaged over the batch.

    T² keeps the gradient's size while T grows; the older form leaves it out. `temperature` may be a tensor
    without dimensions. The loss is never negative.
    """
    # KL shrinks as 1 / T² and the rounding of its float32 sum does not: T² would turn that into 0.01
    softened = F.log_softmax(student.double() / temperature, dim=-1)
    target = F.log_softmax(teacher.double() / temperature, dim=-1)
    # F.kl_div computes the same, but has no batching rule for several students at once
    divergence = (target.exp() * (target - softened)).sum(dim=-1).mean().clamp(min=0)
    loss = divergence.to(student.dtype)
    return loss * temperature**2 if scale_by_temperature_squared else loss
