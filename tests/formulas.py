"""Made-up logits, and formulas of probabilities in float64 numpy, which terms of logits are held against."""

import numpy as np
import torch


def random_batch(
    seed: int, rows: int = 7, classes: int = 5
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits of a student and a teacher, float64, and labels."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = 4 * torch.randn(2, rows, classes, generator=generator, dtype=torch.float64)
    return student, teacher, torch.randint(0, classes, (rows,), generator=generator)


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def kl(p: np.ndarray, q: np.ndarray) -> float:
    return float(sum(a * (np.log(a) - np.log(b)) for a, b in zip(p, q, strict=True) if a > 0))
