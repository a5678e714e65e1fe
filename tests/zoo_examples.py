"""The methods of the zoo, each on made-up outputs of two networks."""

from collections.abc import Iterator
from functools import cache

import torch
from helpers import CONF, composed, setting_of
from omegaconf import OmegaConf
from torch import Tensor

from kdsweep.config import Method
from kdsweep.methods.loss import Loss
from kdsweep.methods.term import Batch, Outputs
from kdsweep.stage import Objective

CHAINS = {"takd", "dgkd", "ban"}  # kd along a chain
METHODS = sorted({file.stem for file in (CONF / "method").glob("*.yaml")} - CHAINS)
CLASSES = 5
SIZES = {"student": (4, 6), "teacher": (8, 10)}  # channels of the stages; the last is the embedding's width


@cache
def method(name: str) -> Method:
    config = OmegaConf.to_container(composed(f"method={name}").method)
    return Method.model_validate(config)


def objective(name: str, temperature: float = 4.0, alpha: float = 0.5) -> Objective:
    """The terms of a method at its defaults, as a plan has them."""
    return {key: term.describe(temperature, alpha) for key, term in method(name).terms.items()}


def outputs(
    side: str, generator: torch.Generator, rows: int = 4, classes: int = CLASSES, scale: float = 1.0
) -> Outputs:
    """Logits, two stages of 8×8 and 4×4 pixels, an embedding, and a linear head, in float64."""

    def draw(*size: int) -> Tensor:
        return scale * torch.randn(size, generator=generator, dtype=torch.float64)

    first, last = SIZES[side]
    pre = draw(rows, first, 8, 8), draw(rows, last, 4, 4)
    stages = tuple(value.relu() for value in pre)
    head = torch.nn.Linear(last, classes, dtype=torch.float64).requires_grad_(False)
    taps = {"stages": stages, "stages.pre": pre, "map": stages[-1:], "embedding": (stages[-1].mean((2, 3)),)}
    for number in (1, 2):
        taps |= {
            f"stage{number}": stages[number - 1 : number],
            f"stage{number}.pre": pre[number - 1 : number],
        }
    return Outputs(draw(rows, classes), taps, head)


def batch(seed: int = 0, rows: int = 4, classes: int = CLASSES, scale: float = 1.0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    labels = torch.arange(rows) % classes
    student, teacher = (outputs(side, generator, rows, classes, scale) for side in SIZES)
    return Batch(student, [teacher], labels, torch.arange(rows))


def loss_of(name: str, example: Batch, classes: int = CLASSES) -> Loss:
    """The loss of a method for such batches, in float64."""
    made = Loss(objective(name), setting_of(example, classes), seed=0).double()
    made.begin(1)
    return made


def tensors(of: Outputs) -> Iterator[Tensor]:
    """What a term may look at, each once."""
    seen = {id(value): value for values in ((of.logits,), *of.taps.values()) for value in values}
    yield from seen.values()
