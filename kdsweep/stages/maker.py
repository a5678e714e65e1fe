"""The maker makes what the store lacks: trained stages, their logits, evaluations and costs.

All four are entries of the store, so each is made once, and a job whose entries all exist needs no torch.
"""

import json
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from importlib.metadata import version
from math import log
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdsweep import __version__
from kdsweep.config import Augment, Hardware
from kdsweep.config.code import takes
from kdsweep.data.dataset import Dataset
from kdsweep.data.split import UNLABELED
from kdsweep.errors import TrainingError
from kdsweep.methods import LOGITS
from kdsweep.networks import TEACHER
from kdsweep.networks.weights import WEIGHTS
from kdsweep.results.events import Emit, EpochEnded, StageFinished, Waiting
from kdsweep.results.network import NetworkResult
from kdsweep.stage import FORMAT, Stage, digest
from kdsweep.stages.classes import metadata
from kdsweep.stages.figures import Figures
from kdsweep.stages.graph import Graph, nodes
from kdsweep.store.store import Busy, Origin, Remote, Store

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from kdsweep.training.fit import Teaching


LIBRARIES = ("timm", "torchvision")  # of networks, and of the weights that their names stand for
MOST_BUILT = 2  # networks that stay in memory, which the training needs too
SECONDS_BETWEEN_LOOKS = 0.05  # at stages that other jobs are training


class Maker:
    """`initial` are the files of the weights that stages begin with, by digest; machines with stores of their
    own exchange trained stages through `remote`."""

    def __init__(
        self,
        store: Store,
        dataset: Dataset,
        hardware: Hardware,
        initial: Mapping[str, Path],
        emit: Emit,
        remote: Remote | None = None,
    ) -> None:
        self.store, self.dataset, self.hardware = store, dataset, hardware
        self.initial, self.emit, self.remote = initial, emit, remote
        self.figures = Figures(store, dataset, self._averaged)
        self._built: dict[str, nn.Module] = {}  # by stage, in eval mode

    def obtain(
        self, links: Mapping[str, Stage], teachers: Mapping[str, Sequence[Stage]]
    ) -> dict[str, NetworkResult]:
        """The results of the stages by role: train, evaluate and count whatever the store lacks.

        Agreement compares with the averaged outputs of a role's `teachers`, if it has any.
        """
        finished = self.train(links)
        return {
            role: self.figures.of_stage(stage, finished[role], teachers.get(role, ()))
            for role, stage in links.items()
        }

    def train(self, links: Mapping[str, Stage]) -> dict[str, StageFinished]:
        """Train the stages, each after its parents, and report how that went. One stage in two roles is
        trained once, in the first.

        A stage that another job is training is left for later; if no other stage is left, this job waits
        for the first to finish.
        """
        graph, stages = Graph.of([links]), nodes([links])
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
        parents = [parent.key for parent in stage.parents]
        origin = Origin("stage", stage.describe(), parents, stage.name, role)
        entry, reused = self.store.obtain(
            stage.key,
            lambda folder: self._train(role, stage, folder),
            remote=self.remote,
            origin=origin,
            wait=False,
        )
        record = json.loads((entry / "stage.json").read_text())
        finished = StageFinished(
            role, stage.key, reused, record["seconds"], record["history"], record["best_epoch"]
        )
        self.emit(finished)
        return finished

    def ensemble(
        self, members: Mapping[str, Stage], teachers: Sequence[Stage], results: Mapping[str, NetworkResult]
    ) -> NetworkResult:
        """The result of the averaged outputs of stages; `results` has their own, by role."""
        return self.figures.of_ensemble(members, teachers, results)

    def weights(self, stage: Stage) -> Path:
        """The safetensors file of a trained stage."""
        entry = self.store.find(stage.key)
        assert entry is not None
        return entry / WEIGHTS

    def _train(self, role: str, stage: Stage, folder: Path) -> None:
        from safetensors.torch import save_file

        from kdsweep.training.fit import fit

        def on_epoch(epoch: int, metrics: dict[str, float], seconds: float) -> None:
            self.emit(EpochEnded(role, epoch, stage.training.total_epochs, metrics, seconds))

        unfinished, teaching = self.store.unfinished(stage.key), self._teaching(stage)
        initial = self.initial[stage.initial] if stage.initial else None
        teacher = (lambda: self._network(stage.parents[-1])) if TEACHER in stage.model else None
        try:
            fitted = fit(stage, self.dataset, teaching, self.device, unfinished, on_epoch, initial, teacher)
        except TrainingError as error:
            raise TrainingError(f"{role}: {error}") from error
        save_file(fitted.weights, folder / WEIGHTS, metadata(self.dataset.classes))
        record = {
            "key": stage.key,
            "stage": stage.describe(),
            "history": fitted.history,
            "best_epoch": fitted.best_epoch,
            "seconds": fitted.seconds,
            "images": stage.images,
            "made_by": _provenance(self.device, self.hardware),
        }
        (folder / "stage.json").write_text(json.dumps(record, indent=1))

    def _teaching(self, stage: Stage) -> "Teaching":
        """The teachers' outputs for a batch: stored ones or, under augmentation or if terms look at maps,
        those of the networks themselves, in eval mode and without gradients."""
        import torch

        from kdsweep.methods import EMBEDDING, all_taps
        from kdsweep.methods.term import Outputs
        from kdsweep.networks.taps import Tapped
        from kdsweep.training.network import Inputs

        taps = all_taps(stage.objective, "teacher")

        def tapped(taps: Sequence[str]) -> list[Tapped]:
            images = Inputs(self.dataset.train, self.dataset, self.device).first()
            return [Tapped(self._network(teacher), taps, images) for teacher in stage.parents]

        if not Augment.model_validate(stage.data["augment"]).random and set(taps) <= {EMBEDDING}:
            stored = [
                [self._over_training(teacher, name, stage).to(self.device) for name in (LOGITS, *taps)]
                for teacher in stage.parents
            ]
            asked = any("teacher_head" in takes(term["_target_"]) for term in stage.objective.values())
            heads = [each.head for each in tapped([EMBEDDING])] if asked else [None] * len(stored)

            def look_up(indices: "Tensor", inputs: "Tensor") -> list[Outputs]:
                rows = [[each.index_select(0, indices) for each in teacher] for teacher in stored]
                return [
                    Outputs(row[0], {EMBEDDING: (row[1],)} if taps else {}, head)
                    for row, head in zip(rows, heads, strict=True)
                ]

            return look_up
        networks = tapped(taps)

        def ask(indices: "Tensor", inputs: "Tensor") -> list[Outputs]:
            with torch.no_grad():
                return [network(inputs) for network in networks]

        return ask

    def _over_training(self, teacher: Stage, what: str, student: Stage) -> "Tensor":
        """A teacher's outputs over the images from which a student learns."""
        import torch

        splits = ["train", UNLABELED] if UNLABELED in student.data else ["train"]
        return torch.cat([self._outputs(teacher, split, what) for split in splits])

    def _averaged(self, members: Sequence[Stage], split: str) -> "Tensor":
        """The members' averaged probabilities, as logits [N, classes]."""
        import torch

        outputs = [self._logits(stage, split) for stage in members]
        if len(outputs) == 1:
            return outputs[0]
        logs = torch.stack([each.double().log_softmax(dim=1) for each in outputs])
        return logs.logsumexp(dim=0) - log(len(outputs))

    def _logits(self, stage: Stage, split: str) -> "Tensor":
        return self._outputs(stage, split, LOGITS)

    def _outputs(self, stage: Stage, split: str, what: str) -> "Tensor":
        """The trained stage's "logits" [N, classes] or "embedding" [N, D] over a split, on the CPU."""
        from safetensors.torch import load_file, save_file

        def make(folder: Path) -> None:
            from kdsweep.networks.taps import Tapped
            from kdsweep.training.network import Inputs, over_split

            inputs = Inputs(self.dataset.splits[split], self.dataset, self.device)
            network = self._network(stage)
            if what == LOGITS:
                outputs = over_split(network, inputs)
            else:
                tapped = Tapped(network, [what], inputs.first())
                outputs = over_split(lambda images: tapped(images).taps[what][0], inputs)
            save_file({what: outputs.cpu()}, folder / f"{what}.safetensors")

        # a stage's own description holds its training and validation images
        data = self.dataset
        others = {"test": data.test_fingerprint, UNLABELED: data.unlabeled_fingerprint}
        images = {"images": others[split], "count": len(data.splits[split].labels)} if split in others else {}
        description = {what: stage.key, "format": FORMAT, "split": split, **images}
        origin = Origin(what, description, [stage.key], stage.name)
        entry, _ = self.store.obtain(digest(description), make, origin=origin)
        return load_file(entry / f"{what}.safetensors")[what]

    def _network(self, stage: Stage) -> "nn.Module":
        """A trained stage's network, in eval mode, which is not trained further."""
        if stage.key not in self._built:
            from safetensors.torch import load_file

            from kdsweep.networks.build import build
            from kdsweep.training.network import place

            network = build(stage.model, len(self.dataset.classes), self.dataset.shape)
            network.load_state_dict(load_file(self.weights(stage)))
            if len(self._built) == MOST_BUILT:
                del self._built[next(iter(self._built))]
            self._built[stage.key] = place(network, self.device).eval().requires_grad_(False)
        return self._built[stage.key]

    @cached_property
    def device(self) -> "torch.device":
        """The device of the config. The CPU threads are set too, since a computation follows."""
        import torch

        from kdsweep.training.device import resolve

        torch.set_num_threads(self.hardware.cpu_threads)
        torch.backends.cudnn.allow_tf32 = False  # else a GPU's float32 differs from the CPU's
        return resolve(self.hardware)


def _provenance(device: "torch.device", hardware: Hardware) -> Mapping[str, Any]:
    """Where the weights were made: this may change their last bits, and is not in the key."""
    import torch

    return {
        "kdsweep": __version__,
        "torch": str(torch.__version__),
        **{name: version(name) for name in LIBRARIES if name in sys.modules},
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "threads": hardware.cpu_threads,
    }
