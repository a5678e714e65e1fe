"""The workshop makes what the store lacks: trained stages, their logits, evaluations and costs.

All four are entries of the store, so each is made once, whoever asks, and a job whose entries are all there
needs no torch.
"""

import json
import platform
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdsweep import __version__
from kdsweep.config import Augment, Hardware
from kdsweep.data import Dataset
from kdsweep.errors import TrainingError
from kdsweep.stage import FORMAT, Stage, digest
from kdsweep.store import Store
from kdsweep.training.events import Emit, EpochEnded, StageFinished, Waiting

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from kdsweep.training.fit import Teaching

WEIGHTS = "weights.safetensors"


class Workshop:
    def __init__(self, store: Store, dataset: Dataset, hardware: Hardware, emit: Emit) -> None:
        self.store, self.dataset, self.hardware, self.emit = store, dataset, hardware, emit

    def obtain(self, role: str, stage: Stage) -> StageFinished:
        """Have the stage trained, its parents being there, and tell how that went."""
        entry, reused = self.store.obtain(
            stage.key, lambda folder: self._train(role, stage, folder), lambda: self.emit(Waiting(role))
        )
        record = json.loads((entry / "stage.json").read_text())
        finished = StageFinished(
            role, stage.key, reused, record["seconds"], record["history"], record["best_epoch"]
        )
        self.emit(finished)
        return finished

    def weights(self, stage: Stage) -> Path:
        """The safetensors file of a trained stage."""
        return self.store.root / stage.key / WEIGHTS

    def evaluation(self, stage: Stage, teacher: Stage | None) -> Path:
        """A folder with the figures of a trained stage on the test split, and its confusion matrix drawn."""

        def make(folder: Path) -> None:
            import torch

            from kdsweep.report.picture import draw_confusion
            from kdsweep.training.evaluate import evaluate

            labels = torch.tensor(self.dataset.test.labels)
            taught = self._logits(teacher, "test") if teacher else None
            figures = evaluate(self._logits(stage, "test"), labels, taught)
            (folder / "evaluation.json").write_text(json.dumps(figures))
            draw_confusion(figures["confusion"], self.dataset.classes, folder / "confusion.png")

        description = {
            "evaluation": stage.key,
            "format": FORMAT,
            "teacher": teacher.key if teacher else None,
            "test": self._test_images(),
        }
        return self.store.obtain(digest(description), make)[0]

    def cost(self, stage: Stage) -> dict[str, float]:
        """Parameters, FLOPs and latency of the stage's network, measured once per network."""

        def make(folder: Path) -> None:
            from kdsweep.models.cost import cost

            figures = cost(stage.model, len(self.dataset.classes), self.dataset.shape)
            (folder / "cost.json").write_text(json.dumps(figures))

        description = {
            "cost": stage.model,
            "source": stage.source,
            "format": FORMAT,
            "classes": len(self.dataset.classes),
            "shape": self.dataset.shape,
        }
        entry, _ = self.store.obtain(digest(description), make)
        figures: dict[str, float] = json.loads((entry / "cost.json").read_text())
        return figures

    def _train(self, role: str, stage: Stage, folder: Path) -> None:
        from safetensors.torch import save_file

        from kdsweep.training.fit import fit

        def on_epoch(epoch: int, metrics: dict[str, float], seconds: float) -> None:
            self.emit(EpochEnded(role, epoch, stage.training.epochs, metrics, seconds))

        unfinished, teaching = self.store.unfinished(stage.key), self._teaching(stage)
        try:
            fitted = fit(stage, self.dataset, teaching, self.device, unfinished, on_epoch)
        except TrainingError as error:
            raise TrainingError(f"{role}: {error}") from error
        save_file(fitted.weights, folder / WEIGHTS)
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
        """What the teacher says of a batch: its stored logits or, under augmentation, the network itself."""
        import torch

        if not stage.parents:
            return lambda indices, inputs: None
        (teacher,) = stage.parents
        if not Augment.model_validate(stage.data["augment"]).random:
            stored = self._logits(teacher, "train").to(self.device)
            return lambda indices, inputs: stored.index_select(0, indices)
        network = self._network(teacher).eval().requires_grad_(False)

        def ask(indices: "Tensor", inputs: "Tensor") -> "Tensor":
            with torch.no_grad():
                return network(inputs).float()  # type: ignore[no-any-return]

        return ask

    def _logits(self, stage: Stage, split: str) -> "Tensor":
        """The trained stage's logits [N, classes] over a split, on the CPU."""
        from safetensors.torch import load_file, save_file

        def make(folder: Path) -> None:
            from kdsweep.training.network import Inputs, logits

            inputs = Inputs(self.dataset.split(split), self.dataset, self.device)
            save_file({"logits": logits(self._network(stage), inputs).cpu()}, folder / "logits.safetensors")

        # a stage's own description holds its training and validation images
        images = self._test_images() if split == "test" else {}
        entry, _ = self.store.obtain(
            digest({"logits": stage.key, "format": FORMAT, "split": split, **images}), make
        )
        return load_file(entry / "logits.safetensors")["logits"]

    def _network(self, stage: Stage) -> "nn.Module":
        from safetensors.torch import load_file

        from kdsweep.models.build import build
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
        return resolve(self.hardware)


def _provenance(device: "torch.device", hardware: Hardware) -> Mapping[str, Any]:
    """Where the weights were made: what may differ in the last bits, and is no part of the key."""
    import torch

    return {
        "kdsweep": __version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "threads": hardware.cpu_threads,
    }
