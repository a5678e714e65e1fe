"""Which stages of two networks answer each other."""

from collections.abc import Sequence

from torch import Size, Tensor

Values = tuple[Tensor, ...]


def paired(student: Values, teacher: Values) -> tuple[Values, Values]:
    """As many values of each network's stages, first to last.

    All of them if the networks have as many; else those of a resolution that both have; else the deepest.
    """
    if len(student) == len(teacher):
        return student, teacher
    ours, theirs = _last_of_each_size(student), _last_of_each_size(teacher)
    if common := [size for size in ours if size in theirs]:
        return tuple(ours[size] for size in common), tuple(theirs[size] for size in common)
    fewest = min(len(student), len(teacher))
    return student[-fewest:], teacher[-fewest:]


def _last_of_each_size(values: Sequence[Tensor]) -> dict[Size, Tensor]:
    return {value.shape[2:]: value for value in values}
