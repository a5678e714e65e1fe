"""Knowledge distillation from softened outputs (Hinton, Vinyals & Dean 2015, arXiv:1503.02531, section 2)."""

from torch import Tensor
from torch.nn import functional as F


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
    Gives "loss" and, unweighted, "labels" and "teacher".
    """
    from_labels = F.cross_entropy(student, labels)
    softened = F.log_softmax(student / temperature, dim=-1)
    target = F.log_softmax(teacher / temperature, dim=-1)
    # F.kl_div says the same, but has no batching rule for several students at once
    from_teacher = (target.exp() * (target - softened)).sum(dim=-1).mean()
    if scale_by_temperature_squared:
        from_teacher = from_teacher * temperature**2
    loss = alpha * from_labels + (1 - alpha) * from_teacher
    return {"loss": loss, "labels": from_labels, "teacher": from_teacher}
