"""The figures of trained stages on the test split, and the cost of their networks, as store entries."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdsweep.config import OUTPUTS, is_file
from kdsweep.data.dataset import Dataset
from kdsweep.networks.weights import WEIGHTS
from kdsweep.results.events import StageFinished
from kdsweep.results.left import as_json, read_left
from kdsweep.results.network import Cost, Evaluation, NetworkResult, Selection
from kdsweep.stage import FORMAT, Average, Panel, Stage, digest
from kdsweep.store.origin import Origin
from kdsweep.store.store import Store

if TYPE_CHECKING:
    from torch import Tensor

FIGURES = 4  # rises when evaluations change, so that older ones are computed again
EVALUATION, SELECTION, COST = "evaluation.json", "selection.json", "cost.json"


class Figures:
    """`averaged` computes the averaged outputs of a panel over a split, as logits [N, classes]."""

    def __init__(self, store: Store, dataset: Dataset, averaged: "Callable[[Panel, str], Tensor]") -> None:
        self.store, self.dataset, self.averaged = store, dataset, averaged

    def of_stage(self, stage: Stage, finished: StageFinished, teachers: Panel | None) -> NetworkResult:
        """The result of a stage; agreement compares with the averaged outputs of `teachers`, if any."""
        entry = self._evaluation(Panel({finished.role: stage}), teachers)
        return NetworkResult(
            key=stage.key,
            name=stage.name,
            reused=finished.reused,
            seconds=finished.seconds,
            val=Selection.of_epoch(finished.history[finished.best_epoch - 1]),
            test=read_left(entry / EVALUATION, Evaluation),
            cost=self._cost(stage),
            best_epoch=finished.best_epoch,
            history=finished.history,
            model=dict(stage.model),
            source=stage.source,
            training=stage.training.effective(),
            objective={name: dict(term) for name, term in stage.objective.items()},
        )

    def of_ensemble(
        self, panel: Panel, teachers: Panel | None, results: Mapping[str, NetworkResult]
    ) -> NetworkResult:
        """The result of the averaged outputs of a panel; `results` has the members' own, by role."""
        members, entry = panel.members, self._evaluation(panel, teachers)
        return NetworkResult(
            key=entry.name,
            name="ensemble",
            reused=all(results[role].reused for role in members),
            seconds=0.0,
            val=read_left(entry / SELECTION, Selection) if self.dataset.val else None,
            test=read_left(entry / EVALUATION, Evaluation),
            cost=_together([results[role].cost for role in members]),
            members=list(members),
        )

    def _evaluation(self, panel: Panel, teachers: Panel | None) -> Path:
        """The entry with the figures on the test split and, for an ensemble, on the validation split too; a
        stage has these in its history."""

        def make(folder: Path) -> None:
            import torch

            from kdsweep.training.evaluate import evaluate
            from kdsweep.training.network import selection_metrics

            data = self.dataset
            taught = self.averaged(teachers, "test") if teachers else None
            outputs, labels = self.averaged(panel, "test"), torch.tensor(data.test.labels)
            evaluation = evaluate(outputs, labels, taught, data.classes, data.positive)
            (folder / EVALUATION).write_text(as_json(evaluation))
            if len(panel.members) > 1 and data.val:
                labels = torch.tensor(data.val.labels)
                metrics = selection_metrics(self.averaged(panel, "val"), labels)
                selection = Selection(metrics["val/accuracy"], metrics["val/cross_entropy"])
                (folder / SELECTION).write_text(as_json(selection))

        data, members = self.dataset, list(panel.members.values())
        taught_by = list(teachers.members.values()) if teachers else []
        averages = {"average": panel, "teachers average": teachers or Panel({})}
        used = {key: each.average.of_outputs() for key, each in averages.items()}
        description = {
            "evaluation": [stage.key for stage in members],
            "format": FORMAT,
            "figures": FIGURES,
            "teachers": [stage.key for stage in taught_by],
            **{key: asdict(average) for key, average in used.items() if average != Average()},
            "positive": data.positive,
            "test": {"images": data.test_fingerprint, "count": len(data.test.labels)},
        }
        name = " + ".join(stage.name for stage in members)
        origin = Origin("evaluation", description, [stage.key for stage in (*members, *taught_by)], name)
        return self.store.obtain(digest(description), make, origin=origin)[0]

    def _cost(self, stage: Stage) -> Cost:
        """Parameters and FLOPs are counted once per network."""

        def make(folder: Path) -> None:
            from kdsweep.networks.cost import Sized, cost

            figures = (
                {}
                if is_file(stage.model)
                else cost(Sized(stage.model, len(self.dataset.classes), self.dataset.shape))
            )
            (folder / COST).write_text(json.dumps(figures))

        description = priced(stage, self.dataset)
        origin = Origin("cost", description, network=stage.name)
        entry, _ = self.store.obtain(digest(description), make, origin=origin)
        trained = self.store.find(stage.key)
        assert trained is not None
        size = None if stage.model["_target_"] == OUTPUTS else (trained / WEIGHTS).stat().st_size
        return Cost(**json.loads((entry / COST).read_text()), bytes=size)


def priced(stage: Stage, dataset: Dataset) -> dict[str, Any]:
    """The description of the cost of a stage's network; stages of one network share it."""
    size = {"classes": len(dataset.classes), "shape": dataset.shape}
    return {"cost": stage.describe()["model"], "source": stage.source, "format": FORMAT, **size}


def _together(costs: Sequence[Cost]) -> Cost:
    """The cost of an ensemble; unknown if that of a member is."""

    def total(name: str) -> Any:
        values = [getattr(cost, name) for cost in costs]
        return None if None in values else sum(values)

    return Cost(**{field.name: total(field.name) for field in fields(Cost)})
