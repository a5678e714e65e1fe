"""Contrastive representation distillation (Tian, Krishnan & Isola 2019, arXiv:1910.10699)."""

import torch
from torch import Generator, Size, Tensor, nn
from torch.nn import functional as F

from kdsweep.methods import of_whole_batch
from kdsweep.methods.shapes import need_vectors

EPSILON = 1e-7


@of_whole_batch
class CRD(nn.Module):
    """The noise-contrastive loss of embeddings [B, D] of both networks, projected to `width` numbers each.

    Each image's projection of one network is told from `negatives` rows, of images of other classes, in a
    memory of the other network's, and the reverse (equations 17 to 19, as the authors' code computes them).
    A memory has a row per training image, which follows its projection by `momentum`; `temperature` divides
    the scores. Both projections learn. The sum of the scores is normalised by its mean over the first batch.

    Negatives are drawn with replacement; the authors' code does so only where there are too few.
    Raises ValueError if all training images are of one class, or for embeddings that are no [B, D].
    """

    student_memory: Tensor
    teacher_memory: Tensor
    by_class: Tensor
    counts: Tensor
    normalizers: Tensor

    def __init__(
        self,
        student: Size,
        teacher: Size,
        train_labels: Tensor,
        num_classes: int,
        *,
        negatives: int = 16384,
        temperature: float = 0.07,
        momentum: float = 0.5,
        width: int = 128,
    ) -> None:
        super().__init__()
        need_vectors(student, teacher)
        counts = train_labels.bincount(minlength=num_classes)
        if int(counts.max()) == len(train_labels):
            raise ValueError("needs training images of two classes or more")
        self.negatives, self.temperature, self.momentum = negatives, temperature, momentum
        self.student, self.teacher = nn.Linear(student[1], width), nn.Linear(teacher[1], width)
        reach = (3 / width) ** 0.5  # rows as long as normalised projections, on average
        for name in ("student_memory", "teacher_memory"):
            rows = torch.empty(len(train_labels), width).uniform_(-reach, reach)
            self.register_buffer(name, rows)
        self.register_buffer("normalizers", torch.zeros(2))  # none yet
        self.register_buffer("by_class", train_labels.argsort(stable=True), persistent=False)
        self.register_buffer("counts", counts, persistent=False)

    def forward(
        self, student: Tensor, teacher: Tensor, labels: Tensor, indices: Tensor, generator: Generator
    ) -> Tensor:
        ours = F.normalize(self.student(student), dim=1)
        theirs = F.normalize(self.teacher(teacher), dim=1)
        drawn = torch.rand(len(labels), self.negatives, generator=generator).to(labels.device)
        rows = torch.cat((indices[:, None], self.others(labels, drawn)), dim=1)
        loss = self._contrast(ours, self.teacher_memory, rows, 0)
        loss = loss + self._contrast(theirs, self.student_memory, rows, 1)
        self._remember(self.student_memory, indices, ours.detach())
        self._remember(self.teacher_memory, indices, theirs.detach())
        return loss

    def others(self, labels: Tensor, drawn: Tensor) -> Tensor:
        """Training images of other classes than `labels` [B], for numbers `drawn` [B, K] from [0, 1)."""
        own = self.counts[labels][:, None]
        start = (self.counts.cumsum(0) - self.counts)[labels][:, None]  # of the own class, in by_class
        places = (drawn * (len(self.by_class) - own)).long()
        return self.by_class[places + own * (places >= start)]

    def _contrast(self, projected: Tensor, memory: Tensor, rows: Tensor, direction: int) -> Tensor:
        """NCE of projections [B, width] against rows [B, 1 + K] of a memory, of which the first is right."""
        # one product with the whole memory is faster than gathering 1 + K rows for each image
        scores = (projected @ memory.T.clone() / self.temperature).gather(1, rows).exp()
        if not self.normalizers[direction]:
            self.normalizers[direction] = scores.detach().mean() * len(memory)
        scores = scores / self.normalizers[direction].clone()
        noise = self.negatives / len(memory)
        right = (scores[:, 0] / (scores[:, 0] + noise + EPSILON)).log()
        wrong = (noise / (scores[:, 1:] + noise + EPSILON)).log().sum(1)
        return -(right + wrong).mean()

    @torch.no_grad()
    def _remember(self, memory: Tensor, indices: Tensor, projected: Tensor) -> None:
        mixed = self.momentum * memory[indices] + (1 - self.momentum) * projected
        memory[indices] = F.normalize(mixed, dim=1)
