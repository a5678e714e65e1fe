"""The loss of a stage: the weighted sum of its terms, with what these learn and remember."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kdsweep.methods import WEIGHT
from kdsweep.methods.schedule import scheduled_weight
from kdsweep.methods.term import Batch, Setting, Term
from kdsweep.stage import Objective, derive


class Loss(nn.Module):
    """The terms of an objective; what they learn and remember are its parameters and buffers.

    `setting` is what terms with adapters are made for. Raises ConfigError for a term that is not to be found
    or refuses its options or shapes.
    """

    def __init__(self, objective: Objective, setting: Setting, seed: int) -> None:
        super().__init__()
        self.objective, self.seed = objective, seed
        # sorted, since the key of a stage knows no order, and a sum of floats does
        names: Sequence[str] = sorted(objective)
        with torch.random.fork_rng(devices=[]):
            self.terms = {name: Term(name, objective[name], setting, derive(seed, 0, name)) for name in names}
        self.learned = nn.ModuleDict(self.terms)

    def forward(
        self,
        batch: Batch,
        epoch: int = 1,
        epochs: int = 1,
        numbers: Mapping[str, Mapping[str, Tensor]] | None = None,
    ) -> dict[str, Tensor]:
        """The sum as "loss", and each term by its name, unweighted; all are scalars.

        `numbers` are by term options, and the weight in this epoch, to take in place of the objective's.
        """
        own = numbers or {}
        losses = {name: term(batch, epoch, own.get(name, {})) for name, term in self.terms.items()}
        weights = {name: each[WEIGHT] for name, each in own.items() if WEIGHT in each}
        return {"loss": self.weighted(losses, {**self.weights(epoch, epochs), **weights}), **losses}

    def weights(self, epoch: int, epochs: int) -> dict[str, float]:
        """The weight of each term in an epoch."""
        return {name: scheduled_weight(self.objective[name], epoch, epochs) for name in self.terms}

    def weighted(self, losses: Mapping[str, Any], weights: Mapping[str, Any]) -> Any:
        """The sum of the terms' losses, by name, with these weights."""
        first, *rest = [losses[name] * weights[name] for name in self.terms]
        return sum(rest, first)

    def figures(self) -> dict[str, Tensor]:
        """What the terms report beside their losses, as "term_name"."""
        return {
            f"{term}_{name}": value
            for term, each in self.terms.items()
            for name, value in each.figures().items()
        }

    def begin(self, epoch: int) -> None:
        """Seed what the terms draw in an epoch."""
        for name, term in self.terms.items():
            term.begin(derive(self.seed, epoch, name))
