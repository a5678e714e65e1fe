"""What terms that look at taps need of their shapes."""

from collections.abc import Sequence

from torch import Size, Tensor
from torch.nn import functional as F


def need_maps(*taken: Tensor | Size) -> None:
    """Raise ValueError unless all are maps, [B, C, H, W]."""
    _need(4, "a map", "taps=stage2", taken)


def need_vectors(*taken: Tensor | Size) -> None:
    """Raise ValueError unless all are vectors, [B, D]."""
    _need(2, "a vector per image", "taps=embedding", taken)


def need_several(*taken: Sequence[Tensor] | Sequence[Size]) -> None:
    """Raise ValueError unless all are lists of maps."""
    for maps in taken:
        if isinstance(maps, Tensor | Size):
            raise ValueError("needs a list of taps, such as taps=stages")
        _need(4, "a map", "taps=stages", maps)


def same_size(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Both maps, the larger averaged to the height and width of the smaller."""
    sizes = zip(student.shape[2:], teacher.shape[2:], strict=True)
    height, width = (min(ours, theirs) for ours, theirs in sizes)
    return _pooled(student, (height, width)), _pooled(teacher, (height, width))


def _pooled(value: Tensor, size: tuple[int, int]) -> Tensor:
    return value if value.shape[2:] == size else F.adaptive_avg_pool2d(value, size)


def _need(dimensions: int, what: str, example: str, taken: Sequence[Tensor | Size]) -> None:
    for each in taken:
        shape = each.shape if isinstance(each, Tensor) else each
        if len(shape) != dimensions:
            raise ValueError(f"needs {what}, such as {example}; got {list(shape)}")
