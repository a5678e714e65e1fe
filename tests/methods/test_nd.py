"""ND's term against its formula, image by image, and the class means that it is made from."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import setting_of
from hypothesis import given
from hypothesis import strategies as st
from zoo_examples import batch, objective

from kdsweep.methods.features.nd import ND
from kdsweep.methods.loss import Loss

CLASSES = 3
LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 2, 0])


def embeddings(seed: int, rows: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, width, generator=generator, dtype=torch.float64)


def term(training: torch.Tensor, width: int = 4, part: int = 3, labels: torch.Tensor = LABELS) -> ND:
    """Made from the teacher's embeddings of the training images, in batches of `part`."""
    torch.manual_seed(0)
    batches = zip(training.split(part), labels.split(part), strict=True)
    shapes = torch.Size((2, width)), torch.Size((2, training.shape[1]))
    return ND(*shapes, CLASSES, batches).double()


@given(st.integers(0, 2**31 - 1), st.integers(1, 8), st.floats(0.1, 10))
def test_it_is_its_formula(seed, part, scale):
    """Whichever embeddings are longer, and in whatever batches the training images come."""
    training = embeddings(seed, 8, 4)
    student, teacher, labels = scale * embeddings(seed + 1, 5, 4), embeddings(seed + 2, 5, 4), LABELS[:5]
    expected = 0.0
    for ours, theirs, label in zip(student.numpy(), teacher.numpy(), labels.tolist(), strict=True):
        center = np.mean([training[i].numpy() for i in range(8) if LABELS[i] == label], axis=0)
        longest = max(np.linalg.norm(ours), np.linalg.norm(theirs))
        expected += (1 - ours @ center / np.linalg.norm(center) / longest) / 5
    loss = term(training, part=part)(student, teacher, labels)
    assert loss.item() == pytest.approx(expected, rel=1e-6, abs=1e-6)  # the directions are float32


@given(st.integers(0, 2**31 - 1), st.floats(0.1, 0.9), st.floats(1.1, 10))
def test_an_embedding_towards_the_class_mean_lacks_what_it_is_shorter(seed, share, more):
    made, labels = term(embeddings(seed, 8, 4)), LABELS[:4]
    teacher = embeddings(seed + 1, 4, 4)
    towards = made.directions[labels] * teacher.norm(dim=1, keepdim=True)
    assert made(share * towards, teacher, labels).item() == pytest.approx(1 - share)
    assert made(more * towards, teacher, labels).item() == pytest.approx(0, abs=1e-6)


def test_where_widths_differ_a_layer_learns():
    training = embeddings(0, 8, 4)
    assert not list(term(training).parameters())
    made = term(training, width=6)
    student, teacher = embeddings(1, 5, 6), embeddings(2, 5, 4)
    adapted = made.adapter(student)
    expected = term(training)(adapted, teacher, LABELS[:5])
    torch.testing.assert_close(made(student, teacher, LABELS[:5]), expected)
    assert adapted.shape == teacher.shape


def test_dead_embeddings_and_a_class_without_images_give_1():
    training = embeddings(0, 8, 4)
    made = term(training, labels=LABELS.clamp(max=1))
    student = torch.zeros(2, 4, dtype=torch.float64, requires_grad=True)
    for teacher, label in ((embeddings(1, 2, 4), 2), (torch.zeros(2, 4, dtype=torch.float64), 0)):
        loss = made(student, teacher, torch.tensor([label, label]))
        (gradient,) = torch.autograd.grad(loss, student)
        assert loss.item() == 1 and gradient.eq(0).all()


def test_the_class_means_are_in_checkpoints():
    assert "directions" in term(embeddings(0, 8, 4)).state_dict()


def test_the_teachers_tap_may_have_another_name():
    """In the pass over the training images there is no student."""
    example = batch()
    (teacher,) = example.teachers
    renamed = replace(teacher, taps={"pooled": teacher.taps["embedding"]})
    seen = replace(example, teachers=[renamed])
    passed = replace(seen, student=renamed)
    described = objective("nd")
    described["nd"] = {**described["nd"], "taps": {"student": "embedding", "teacher": "pooled"}}
    setting = replace(setting_of(seen, 5), training_images=lambda: iter([passed]))
    losses = [
        Loss(of, made_for, seed=0).double()(given)["nd"]
        for of, made_for, given in (
            (described, setting, seen),
            (objective("nd"), setting_of(example, 5), example),
        )
    ]
    torch.testing.assert_close(*losses)


def test_maps_are_refused():
    with pytest.raises(ValueError, match="taps=embedding"):
        ND(torch.Size((2, 3, 4, 4)), torch.Size((2, 3)), CLASSES, iter(()))
