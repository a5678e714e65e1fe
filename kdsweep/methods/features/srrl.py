"""Softmax regression representation learning (Yang et al., ICLR 2021)."""

from collections.abc import Callable, Sequence

from torch import Size, Tensor, nn

from kdsweep.methods.shapes import need_maps, need_vectors


class SRRL(nn.Module):
    """mean (e - e_t)² + beta · mean (head_t(e) - t)², for the embedding e that a connector makes.

    e [B, D] is the mean over pixels of the student's map [B, C, H, W] after a 1×1 convolution, batch
    normalization and, with `relu`, a ReLU, which learn; e_t and t are the teacher's embedding [B, D] and
    logits [B, C]. The means are over images and numbers. Gradients pass the teacher's head, which does not
    change. Raises ValueError unless the student's tap is a map, and the teacher's are embedding and logits.
    """

    def __init__(self, student: Size, teacher: Sequence[Size], *, beta: float, relu: bool = True) -> None:
        super().__init__()
        need_maps(student)
        if isinstance(teacher, Size) or len(teacher) != 2:
            raise ValueError("needs two taps of the teacher, taps.teacher=[embedding,logits]")
        need_vectors(*teacher)
        width = teacher[0][1]
        convolution = nn.Conv2d(student[1], width, 1, bias=False)
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        self.connector = nn.Sequential(convolution, nn.BatchNorm2d(width), *([nn.ReLU()] if relu else []))
        self.beta = beta

    def forward(
        self, student: Tensor, teacher: Sequence[Tensor], teacher_head: Callable[[Tensor], Tensor]
    ) -> Tensor:
        wanted, logits = teacher
        embedding = self.connector(student).mean((2, 3))
        matched: Tensor = (embedding - wanted).square().mean()
        return matched + self.beta * (teacher_head(embedding) - logits).square().mean()
