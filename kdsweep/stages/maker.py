"""The maker makes what the store lacks: trained stages, their evaluations and costs.

All are entries of the store, so each is made once, and a job whose entries all exist needs no torch.
"""

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from kdsweep.config import Hardware
from kdsweep.data.dataset import Dataset
from kdsweep.networks.weights import WEIGHTS
from kdsweep.results.events import Emit, EpochEnded, StageFinished, Waiting
from kdsweep.results.network import NetworkResult
from kdsweep.stage import Panel, Stage
from kdsweep.stages.answers import Answers
from kdsweep.stages.companions import Companions
from kdsweep.stages.figures import Figures
from kdsweep.stages.graph import Graph, nodes
from kdsweep.stages.trainer import Trainer
from kdsweep.store.origin import Remote
from kdsweep.store.store import Busy, Store

if TYPE_CHECKING:
    import torch

SECONDS_BETWEEN_LOOKS = 0.05  # at stages that other jobs are training


class Maker:
    """`initial` are the files of the weights that stages begin with, by digest; machines with stores of their
    own exchange trained stages through `remote`. `folder` is the job's, in or below that of its sweep."""

    def __init__(
        self,
        store: Store,
        dataset: Dataset,
        hardware: Hardware,
        initial: Mapping[str, Path],
        emit: Emit,
        remote: Remote | None = None,
        folder: Path | None = None,
    ) -> None:
        self.store, self.dataset, self.hardware = store, dataset, hardware
        self.emit = emit
        self.answers = Answers(store, dataset, lambda: self.device)
        self.figures = Figures(store, dataset, self.answers.averaged)
        self.companions = Companions.of_job(folder) if folder else Companions()
        self.trainer = Trainer(self.answers, hardware, initial, self.companions, remote)

    def obtain(self, links: Mapping[str, Stage], teachers: Mapping[str, Panel]) -> dict[str, NetworkResult]:
        """The results of the stages by role: train, evaluate and count whatever the store lacks.

        Agreement compares with the averaged outputs of a role's `teachers`, if it has any. A teacher without
        logits of the test images has no result.
        """
        finished = self.train(links)
        return {
            role: self.figures.of_stage(stage, finished[role], self._heard(teachers.get(role)))
            for role, stage in links.items()
            if self.answers.are_known(stage)
        }

    def train(self, links: Mapping[str, Stage]) -> dict[str, StageFinished]:
        """Train the stages, each after its parents, and report how that went. One stage in two roles is
        trained once, in the first.

        A stage that another job is training is left for later; if no other stage is left, this job waits
        for the first to finish.
        """
        graph, stages = Graph.of([links]), nodes([links])
        self.trainer.roles = {key: node.role for key, node in stages.items()}
        finished: dict[str, StageFinished] = {}  # by key
        announced: set[str] = set()
        while ready := graph.ready():
            for key in ready:
                with suppress(Busy):
                    finished[key] = self._obtain_stage(stages[key].role, stages[key].stage)
                    graph.end([key])
                    break
            else:
                for key in ready:
                    if key not in announced:
                        self.emit(Waiting(stages[key].role))
                announced |= set(ready)
                time.sleep(SECONDS_BETWEEN_LOOKS)
        by_role = {role: replace(finished[stage.key], role=role) for role, stage in links.items()}
        for role, stage in links.items():
            if role != stages[stage.key].role:
                self.emit(by_role[role])
        return by_role

    def _obtain_stage(self, role: str, stage: Stage) -> StageFinished:
        """Train the stage, whose parents are trained, unless the store has it, and report how that went.

        Raises Busy if another job is training it.
        """

        def on_epoch(epoch: int, metrics: dict[str, float], seconds: float) -> None:
            self.emit(EpochEnded(role, epoch, stage.training.total_epochs, metrics, seconds))

        entry, found = self.trainer.obtain(role, stage, on_epoch)
        reused = found and not self.companions.take(stage)
        record = json.loads((entry / "stage.json").read_text())
        finished = StageFinished(
            role, stage.key, reused, record["seconds"], record["history"], record["best_epoch"]
        )
        self.emit(finished)
        return finished

    def ensemble(
        self, panel: Panel, teachers: Panel | None, results: Mapping[str, NetworkResult]
    ) -> NetworkResult | None:
        """The result of the averaged outputs of a panel; `results` has the members' own, by role. None if one
        of them has none."""
        heard = self._heard(panel)
        return self.figures.of_ensemble(heard, self._heard(teachers), results) if heard else None

    def _heard(self, panel: Panel | None) -> Panel | None:
        """The panel, if all its members have logits of the test images."""
        return panel if panel and all(map(self.answers.are_known, panel.members.values())) else None

    def weights(self, stage: Stage) -> Path:
        """The safetensors file of a trained stage."""
        entry = self.store.find(stage.key)
        assert entry is not None
        return entry / WEIGHTS

    @cached_property
    def device(self) -> "torch.device":
        """The device of the config. The CPU threads are set too, since a computation follows."""
        import torch

        from kdsweep.training.device import resolve

        torch.set_num_threads(self.hardware.cpu_threads)
        torch.backends.cudnn.allow_tf32 = False  # else a GPU's float32 differs from the CPU's
        return resolve(self.hardware)
