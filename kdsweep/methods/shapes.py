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


def need_features(*taken: Tensor | Size) -> None:
    """Raise ValueError unless all are maps, or all are vectors."""
    first = len(taken[0].shape if isinstance(taken[0], Tensor) else taken[0])
    dimensions = first if first in (2, 4) else 4
    _need(dimensions, "maps, or vectors, of both networks", "taps=map or taps=embedding", taken)


def same_sizes(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Pairs of maps of one height and width each. Raises ValueError unless both are lists of as many maps."""
    need_several(student, teacher)
    if len(student) != len(teacher):
        raise ValueError(f"needs as many taps of both networks; got {len(student)} and {len(teacher)}")
    return [same_size(ours, theirs) for ours, theirs in zip(student, teacher, strict=True)]


def same_size(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Both maps, the larger averaged to the height and width of the smaller."""
    sizes = zip(student.shape[2:], teacher.shape[2:], strict=True)
    height, width = (min(ours, theirs) for ours, theirs in sizes)
    return _pooled(student, (height, width)), _pooled(teacher, (height, width))


def _pooled(value: Tensor, size: tuple[int, int]) -> Tensor:
    return value if value.shape[2:] == size else F.adaptive_avg_pool2d(value, size)


def _need(dimensions: int, what: str, example: str, taken: Sequence[Tensor | Size]) -> None:
    for each in taken:
        if not isinstance(each, Tensor | Size):
            raise ValueError(f"needs {what}, such as {example}; got several taps")
        shape = each.shape if isinstance(each, Tensor) else each
        if len(shape) != dimensions:
            raise ValueError(f"needs {what}, such as {example}; got {list(shape)}")
