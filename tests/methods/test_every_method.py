"""What holds for every method of the zoo, at its defaults."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from zoo_examples import CLASSES, METHODS, batch, loss_of, objective, tensors

from kdsweep.methods.term import Batch, Outputs

NOT_SMOOTH = {"wsld"}  # gradients that are not the loss's, on purpose


def changed(outputs: Outputs, change) -> Outputs:
    """Each tensor changed; one that occurs at several taps stays one."""
    new = {id(value): change(value) for value in tensors(outputs)}
    taps = {name: tuple(new[id(value)] for value in values) for name, values in outputs.taps.items()}
    return replace(outputs, logits=new[id(outputs.logits)], taps=taps)


def learning(example: Batch) -> tuple[Batch, list[torch.Tensor]]:
    """The batch with the student's outputs as leaves, and these."""
    student = changed(example.student, lambda value: value.detach().clone().requires_grad_())
    return replace(example, student=student), list(tensors(student))


@pytest.mark.parametrize("name", METHODS)
def test_the_gradient_is_that_of_the_loss(name):
    if name in NOT_SMOOTH:
        pytest.skip("its gradient is another on purpose")
    example, leaves = learning(batch(1, rows=3))
    made = loss_of(name, example)
    made(example)  # the first batch may set what later ones keep

    def value(*given: torch.Tensor) -> torch.Tensor:
        new = dict(zip(map(id, leaves), given, strict=True))
        student = changed(example.student, lambda each: new[id(each)])
        again = deepcopy(made)  # a step may change memories
        again.begin(1)
        return again(replace(example, student=student), epoch=50, epochs=100)["loss"]

    assert torch.autograd.gradcheck(value, leaves, fast_mode=True)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("rounded", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", METHODS)
def test_loss_and_gradient_are_finite(name, rounded, scale):
    """Of outputs in float32, as they are, and as bfloat16 rounds them."""
    plain = batch(2, scale=scale)

    def narrow(outputs: Outputs) -> Outputs:
        return replace(changed(outputs, lambda value: value.to(rounded).float()), head=outputs.head.float())

    example = replace(plain, student=narrow(plain.student), teachers=[narrow(plain.teachers[0])])
    example, leaves = learning(example)
    loss = loss_of(name, example).float()(example, epoch=50, epochs=100)["loss"]
    gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
    assert loss.isfinite() and all(each is None or each.isfinite().all() for each in gradients)


@pytest.mark.parametrize(("rows", "classes"), [(2, CLASSES), (4, 2), (2, 2)])
@pytest.mark.parametrize("name", METHODS)
def test_two_images_and_two_classes_do(name, rows, classes):
    example, leaves = learning(batch(3, rows=rows, classes=classes))
    loss = loss_of(name, example, classes)(example, epoch=50, epochs=100)["loss"]
    gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
    assert loss.isfinite() and all(each is None or each.isfinite().all() for each in gradients)


@pytest.mark.parametrize("name", METHODS)
def test_dead_units_are_no_trouble(name):
    """A student whose outputs are all 0, as those of dead units."""
    example = batch(4)
    student = changed(example.student, lambda value: value * 0)
    example, leaves = learning(replace(example, student=student))
    loss = loss_of(name, example)(example, epoch=50, epochs=100)["loss"]
    gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
    assert loss.isfinite() and all(each is None or each.isfinite().all() for each in gradients)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "scratch"])
def test_the_student_learns_by_it(name):
    """The term reaches what it looks at, and what it trains beside the student."""
    example, leaves = learning(batch(5))
    made = loss_of(name, example)
    losses = made(example, epoch=50, epochs=100)
    terms = [losses[term] for term in objective(name) if term != "labels"] or [losses["labels"]]
    gradients = torch.autograd.grad(sum(terms), [*leaves, *made.parameters()], allow_unused=True)
    reached, learned = gradients[: len(leaves)], gradients[len(leaves) :]
    assert any(each is not None and each.abs().sum() > 0 for each in reached)
    assert all(each is not None for each in learned)
