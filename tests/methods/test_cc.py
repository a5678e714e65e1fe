"""CC's term against its formula, one pair of neighbours at a time."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdsweep.methods.relations.cc import CC


def term() -> CC:
    torch.manual_seed(0)
    return CC(torch.Size((2, 3)), torch.Size((2, 6)), width=4).double()


def embeddings(seed: int, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    draw = [torch.randn(rows, width, generator=generator, dtype=torch.float64) for width in (3, 6)]
    return draw[0], draw[1]


def projected(layer: torch.nn.Linear, row: np.ndarray) -> np.ndarray:
    return layer.weight.detach().numpy() @ row + layer.bias.detach().numpy()


@given(st.integers(0, 2**31 - 1), st.integers(2, 5))
def test_it_is_its_formula(seed, rows):
    made, batch = term(), embeddings(seed, rows)
    apart = [
        abs(projected(made.student, ours) - projected(made.teacher, theirs))
        for ours, theirs in zip(*(each.numpy() for each in batch), strict=True)
    ]
    expected = sum(apart[i] @ apart[i + 1] for i in range(rows - 1)) / (rows - 1)
    assert made(*batch).item() == pytest.approx(expected, rel=1e-9)


def test_it_depends_on_who_is_next_to_whom_but_not_on_the_direction():
    made, (student, teacher) = term(), embeddings(0, 5)
    loss = made(student, teacher)
    torch.testing.assert_close(made(student.flip(0), teacher.flip(0)), loss)
    order = [0, 2, 4, 1, 3]
    assert not torch.isclose(made(student[order], teacher[order]), loss)


def test_projections_that_agree_have_no_loss():
    made, (student, _) = term(), embeddings(0, 4)
    made.teacher = made.student
    assert made(student, student).item() == 0


def test_maps_are_refused():
    with pytest.raises(ValueError, match="taps=embedding"):
        CC(torch.Size((2, 3, 4, 4)), torch.Size((2, 3)))
