"""The workshop makes what the store lacks: trained stages, their logits, evaluations and costs.

All four are entries of the store, so each is made once, whoever asks, and a job whose entries are all there
needs no torch.
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
from kdsweep.data import Dataset
from kdsweep.errors import TrainingError
from kdsweep.networks.weights import WEIGHTS
from kdsweep.results.events import Emit, EpochEnded, StageFinished, Waiting
from kdsweep.stage import FORMAT, Stage, digest
from kdsweep.stages.classes import metadata
from kdsweep.stages.graph import Graph, nodes
from kdsweep.store.store import Busy, Origin, Remote, Store

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from kdsweep.training.fit import Teaching


FIGURES = 3  # counts up with what an evaluation holds: older ones are made anew
LIBRARIES = ("timm", "torchvision")  # of networks, and of the weights that their names stand for
SECONDS_BETWEEN_LOOKS = 0.05  # at stages that other jobs are training


class Workshop:
    """`initial` are the files of the weights that stages begin with, by digest; `remote` is where trained
    stages are exchanged with machines that have a store of their own."""

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

    def obtain_all(self, links: Mapping[str, Stage]) -> dict[str, StageFinished]:
        """Have the stages trained, each after its parents, and tell how that went. One stage in two roles is
        trained once, in the first.

        One that another job is training is left for later while there is another to train; where there is
        none, this job waits for whichever is there first.
        """
        graph, stages = Graph.of([links]), nodes([links])
        finished: dict[str, StageFinished] = {}  # by key
        told: set[str] = set()
        while ready := graph.ready():
            for key in ready:
                with suppress(Busy):
                    finished[key] = self.obtain(stages[key].role, stages[key].stage)
                    graph.end([key])
                    break
            else:
                for key in ready:
                    if key not in told:
                        self.emit(Waiting(stages[key].role))
                told |= set(ready)
                time.sleep(SECONDS_BETWEEN_LOOKS)
        by_role = {role: replace(finished[stage.key], role=role) for role, stage in links.items()}
        for role, stage in links.items():
            if role != stages[stage.key].role:
                self.emit(by_role[role])
        return by_role

    def obtain(self, role: str, stage: Stage) -> StageFinished:
        """Have the stage trained, its parents being there, and tell how that went.

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

    def weights(self, stage: Stage) -> Path:
        """The safetensors file of a trained stage."""
        entry = self.store.find(stage.key)
        assert entry is not None
        return entry / WEIGHTS

    def evaluation(self, members: Sequence[Stage], teachers: Sequence[Stage]) -> Path:
        """A folder with the figures of a trained stage, or of the averaged outputs of several, on the
        validation and test splits, and the confusion matrix of the test split drawn. Agreement is with the
        averaged outputs of `teachers`."""

        def make(folder: Path) -> None:
            import torch

            from kdsweep.report.pictures.confusion import draw_confusion
            from kdsweep.training.evaluate import evaluate
            from kdsweep.training.network import selection_metrics

            data = self.dataset
            taught = self._averaged(teachers, "test") if teachers else None
            labels = {name: torch.tensor(data.split(name).labels) for name in ("val", "test")}
            figures = {
                "val": selection_metrics(self._averaged(members, "val"), labels["val"]),
                "test": evaluate(
                    self._averaged(members, "test"), labels["test"], taught, data.classes, data.positive
                ),
            }
            (folder / "evaluation.json").write_text(json.dumps(figures))
            draw_confusion(figures["test"]["confusion"], data.classes, folder / "confusion.png")

        description = {
            "evaluation": [stage.key for stage in members],
            "format": FORMAT,
            "figures": FIGURES,
            "teachers": [stage.key for stage in teachers],
            "positive": self.dataset.positive,
            "test": self._test_images(),
        }
        name = " + ".join(stage.name for stage in members)
        origin = Origin("evaluation", description, [stage.key for stage in (*members, *teachers)], name)
        return self.store.obtain(digest(description), make, origin=origin)[0]

    def cost(self, stage: Stage) -> dict[str, float]:
        """Parameters and FLOPs of the stage's network, counted once per network."""

        def make(folder: Path) -> None:
            from kdsweep.networks.cost import Sized, cost

            figures = cost(Sized(stage.model, len(self.dataset.classes), self.dataset.shape))
            (folder / "cost.json").write_text(json.dumps(figures))

        description = priced(stage, self.dataset)
        origin = Origin("cost", description, network=stage.name)
        entry, _ = self.store.obtain(digest(description), make, origin=origin)
        figures: dict[str, float] = json.loads((entry / "cost.json").read_text())
        return figures

    def _train(self, role: str, stage: Stage, folder: Path) -> None:
        from safetensors.torch import save_file

        from kdsweep.training.fit import fit

        def on_epoch(epoch: int, metrics: dict[str, float], seconds: float) -> None:
            self.emit(EpochEnded(role, epoch, stage.training.total_epochs, metrics, seconds))

        unfinished, teaching = self.store.unfinished(stage.key), self._teaching(stage)
        initial = self.initial[stage.initial] if stage.initial else None
        try:
            fitted = fit(stage, self.dataset, teaching, self.device, unfinished, on_epoch, initial)
        except TrainingError as error:
            raise TrainingError(f"{role}: {error}") from error
        save_file(fitted.weights, folder / WEIGHTS, metadata(self.dataset.classes))
        record = {
            "key": stage.key,
            "stage": stage.describe(),
            "history": fitted.history,
            "best_epoch": fitted.best_epoch,
            "seconds": fitted.seconds,
            "made_by": _provenance(self.device, self.hardware),
        }
        (folder / "stage.json").write_text(json.dumps(record, indent=1))

    def _teaching(self, stage: Stage) -> "Teaching":
        """What the teachers say of a batch, [B, C] or of several [P, B, C]: their stored logits or, under
        augmentation, the networks themselves, in eval mode and without gradients."""
        import torch

        if not stage.parents:
            return lambda indices, inputs: None
        if not Augment.model_validate(stage.data["augment"]).random:
            stored = _stacked([self._logits(teacher, "train") for teacher in stage.parents]).to(self.device)
            return lambda indices, inputs: stored.index_select(-2, indices)
        networks = [self._network(teacher).eval().requires_grad_(False) for teacher in stage.parents]

        def ask(indices: "Tensor", inputs: "Tensor") -> "Tensor":
            with torch.no_grad():
                return _stacked([network(inputs).float() for network in networks])

        return ask

    def _averaged(self, members: Sequence[Stage], split: str) -> "Tensor":
        """The members' averaged outputs, as logits [N, classes]; averaged are probabilities."""
        import torch

        outputs = [self._logits(stage, split) for stage in members]
        if len(outputs) == 1:
            return outputs[0]
        logs = torch.stack([each.double().log_softmax(dim=1) for each in outputs])
        return logs.logsumexp(dim=0) - log(len(outputs))

    def _logits(self, stage: Stage, split: str) -> "Tensor":
        """The trained stage's logits [N, classes] over a split, on the CPU."""
        from safetensors.torch import load_file, save_file

        def make(folder: Path) -> None:
            from kdsweep.training.network import Inputs, logits

            inputs = Inputs(self.dataset.split(split), self.dataset, self.device)
            save_file({"logits": logits(self._network(stage), inputs).cpu()}, folder / "logits.safetensors")

        # a stage's own description holds its training and validation images
        images = self._test_images() if split == "test" else {}
        description = {"logits": stage.key, "format": FORMAT, "split": split, **images}
        origin = Origin("logits", description, [stage.key], stage.name)
        entry, _ = self.store.obtain(digest(description), make, origin=origin)
        return load_file(entry / "logits.safetensors")["logits"]

    def _network(self, stage: Stage) -> "nn.Module":
        from safetensors.torch import load_file

        from kdsweep.networks.build import build
        from kdsweep.training.network import place

        network = build(stage.model, len(self.dataset.classes), self.dataset.shape)
        network.load_state_dict(load_file(self.weights(stage)))
        return place(network, self.device)

    def _test_images(self) -> dict[str, Any]:
        return {"images": self.dataset.test_fingerprint, "count": len(self.dataset.test.labels)}

    @cached_property
    def device(self) -> "torch.device":
        """The device of the config; who asks for it computes, so the CPU threads are set as well."""
        import torch

        from kdsweep.training.device import resolve

        torch.set_num_threads(self.hardware.cpu_threads)
        torch.backends.cudnn.allow_tf32 = False  # or a GPU's float32 is another one than the CPU's
        return resolve(self.hardware)


def priced(stage: Stage, dataset: Dataset) -> dict[str, Any]:
    """What the cost of a stage's network is that of: stages of one network have one."""
    size = {"classes": len(dataset.classes), "shape": dataset.shape}
    return {"cost": stage.describe()["model"], "source": stage.source, "format": FORMAT, **size}


def _stacked(outputs: "list[Tensor]") -> "Tensor":
    import torch

    return outputs[0] if len(outputs) == 1 else torch.stack(outputs)


def _provenance(device: "torch.device", hardware: Hardware) -> Mapping[str, Any]:
    """Where the weights were made: what may differ in the last bits, and is no part of the key."""
    import torch

    return {
        "kdsweep": __version__,
        "torch": str(torch.__version__),
        **{name: version(name) for name in LIBRARIES if name in sys.modules},
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "threads": hardware.cpu_threads,
    }
