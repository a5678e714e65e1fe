"""What trained networks say of the images: logits and embeddings over a split, as entries of the store, and
what a stage's teachers say of a batch."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from kdsweep.config import OUTPUTS
from kdsweep.config.code import takes
from kdsweep.data.dataset import Dataset
from kdsweep.data.split import UNLABELED
from kdsweep.errors import ConfigError
from kdsweep.methods import EMBEDDING, LOGITS, all_taps
from kdsweep.networks import CLASSES, has_logits
from kdsweep.networks.weights import WEIGHTS
from kdsweep.stage import FORMAT, Panel, Stage, digest
from kdsweep.stages.teachers import follows_trajectory
from kdsweep.store.origin import Origin
from kdsweep.store.store import Store

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from kdsweep.methods.term import Outputs
    from kdsweep.networks.taps import Tapped
    from kdsweep.training.teaching import Teaching

MOST_BUILT = 2  # networks that stay in memory, which the training needs too


class Answers:
    """`device` is asked for when something is computed."""

    def __init__(self, store: Store, dataset: Dataset, device: "Callable[[], torch.device]") -> None:
        self.store, self.dataset, self.device = store, dataset, device
        self._built: dict[str, nn.Module] = {}  # by stage, in eval mode

    def network(self, stage: Stage) -> "nn.Module":
        """A trained stage's network, in eval mode, which is not trained further."""
        if stage.key not in self._built:
            from safetensors.torch import load_file

            from kdsweep.networks.build import build
            from kdsweep.training.network import place

            entry = self.store.find(stage.key)
            assert entry is not None
            network = build(stage.model, len(self.dataset.classes), self.dataset.shape)
            network.load_state_dict(load_file(entry / WEIGHTS))
            if len(self._built) == MOST_BUILT:
                del self._built[next(iter(self._built))]
            self._built[stage.key] = place(network, self.device()).eval().requires_grad_(False)
        return self._built[stage.key]

    def are_known(self, stage: Stage) -> bool:
        """Whether the stage has logits of the test images."""
        if not has_logits(stage.model):
            return False
        return not is_outputs(stage) or self.network(stage).covers(self.dataset.test.names)  # type: ignore[operator]

    def averaged(self, panel: Panel, split: str) -> "Tensor":
        """The averaged outputs of a panel's members, as logits [N, classes]; if not told otherwise, averaged
        as probabilities."""
        outputs = [self.outputs(stage, split, LOGITS) for stage in panel.members.values()]
        if len(outputs) == 1:
            return outputs[0]
        from kdsweep.methods.average import averaged

        return averaged([each.double() for each in outputs], panel.average)

    def outputs(self, stage: Stage, split: str, what: str) -> "Tensor":
        """The trained stage's "logits" [N, classes] or "embedding" [N, D] over a split, on the CPU."""
        from safetensors.torch import load_file, save_file

        def make(folder: Path) -> None:
            save_file({what: self._computed(stage, split, what).cpu()}, folder / f"{what}.safetensors")

        # a stage's own description holds its training and validation images
        data = self.dataset
        others = {"test": data.test_fingerprint, UNLABELED: data.unlabeled_fingerprint}
        images = {"images": others[split], "count": len(data.splits[split].labels)} if split in others else {}
        description = {what: stage.key, "format": FORMAT, "split": split, **images}
        origin = Origin(what, description, [stage.key], stage.name)
        entry, _ = self.store.obtain(digest(description), make, origin=origin)
        return load_file(entry / f"{what}.safetensors")[what]

    def _computed(self, stage: Stage, split: str, what: str) -> "Tensor":
        from kdsweep.networks.taps import Tapped
        from kdsweep.training.network import Inputs, over_split

        network = self.network(stage)
        if is_outputs(stage):
            try:
                return looked_up(network, stage, self.dataset, split)
            except ConfigError as error:
                raise ConfigError(f"teacher {stage.name} {error}") from error
        inputs = Inputs(self.dataset.splits[split], self.dataset, self.device())
        if what == LOGITS:
            return over_split(network, inputs)
        tapped = Tapped(network, [what], inputs.first())
        return over_split(lambda images: tapped(images).taps[what][0], inputs)

    def teaching(self, stage: Stage) -> "Teaching":
        """The teachers' outputs for a batch, without gradients: stored ones, of augmented images epoch by
        epoch, or, if terms look at maps, those of the networks themselves, in eval mode."""
        from kdsweep.methods.average import as_one
        from kdsweep.stages.trajectory import Live, Trajectory
        from kdsweep.training.teaching import Teaching

        voices = [self._voice(parent, stage) for parent in stage.parents]

        @contextmanager
        def epoch(number: int) -> Iterator[None]:
            with ExitStack() as under_way:
                for voice in voices:
                    if isinstance(voice, Trajectory):
                        under_way.enter_context(voice.epoch(number))
                yield

        return Teaching(
            lambda indices, inputs: as_one([voice(indices, inputs) for voice in voices], stage.average),
            epoch,
            kept=not any(isinstance(voice, Live) for voice in voices) and bool(self.store.answers_gb),
        )

    def _voice(self, teacher: Stage, stage: Stage) -> "Callable[[Tensor, Tensor], Outputs]":
        """What one teacher says to a stage."""
        from kdsweep.stages.trajectory import Live, Trajectory

        taps = all_taps(stage.objective, "teacher")
        with_head = any("teacher_head" in takes(term["_target_"]) for term in stage.objective.values())
        parts = list(dict.fromkeys([*([LOGITS] if has_logits(teacher.model) else []), *taps]))
        unlabeled = UNLABELED in stage.data
        in_store = not stage.augment.random and set(taps) <= {EMBEDDING}
        if in_store or is_outputs(teacher):
            return self._stored(teacher, parts, with_head, unlabeled)
        live = Live(lambda: self._tapped(teacher, taps), self._example)
        if not follows_trajectory(stage.augment, stage.objective, stage.parents):
            return live
        return Trajectory(self.store, stage, teacher, parts, self._images(stage), live, with_head)

    def _images(self, stage: Stage) -> int:
        """How many images the batches of an epoch have."""
        import torch

        from kdsweep.training.batches import batches

        labels, others = torch.tensor(self.dataset.train.labels), self.dataset.unlabeled
        count = len(labels) + (len(others.labels) if others and UNLABELED in stage.data else 0)
        return sum(map(len, batches(stage, labels, count, epoch=1)))

    def _stored(
        self, teacher: Stage, parts: Sequence[str], head: bool, unlabeled: bool
    ) -> "Callable[[Tensor, Tensor], Outputs]":
        import torch

        from kdsweep.methods.term import Outputs

        splits = ["train", UNLABELED] if unlabeled else ["train"]
        stored = {
            name: torch.cat([self.outputs(teacher, split, name) for split in splits]).to(self.device())
            for name in parts
        }
        own_head = self._tapped(teacher, [EMBEDDING]).head if head else None

        def look_up(indices: "Tensor", inputs: "Tensor") -> "Outputs":
            rows = {name: each.index_select(0, indices) for name, each in stored.items()}
            logits = rows.pop(LOGITS, None)
            found = {name: (value,) for name, value in rows.items()}
            return Outputs(found[EMBEDDING][0] if logits is None else logits, found, own_head)

        return look_up

    def _tapped(self, teacher: Stage, taps: Sequence[str]) -> "Tapped":
        from kdsweep.networks.taps import Tapped

        return Tapped(self.network(teacher), taps, self._example())

    def _example(self) -> "Tensor":
        """Two training images."""
        from kdsweep.training.network import Inputs

        return Inputs(self.dataset.train, self.dataset, self.device()).first()


def is_outputs(stage: Stage) -> bool:
    """Whether a stage's network is a file of outputs."""
    return bool(stage.model["_target_"] == OUTPUTS)


def check_outputs(stage: Stage, file: Path, dataset: Dataset, unlabeled: bool = False) -> None:
    """Raise ConfigError unless a file of outputs has all images to learn from, `unlabeled` ones if they are
    used, and all or none of other splits."""
    from kdsweep.networks.build import build

    network = build(stage.model, len(dataset.classes), dataset.shape)
    network.read(file)  # type: ignore[operator]
    for split, images in dataset.splits.items():
        learned = split == "train" or (split == UNLABELED and unlabeled)
        if learned or network.covers(images.names):  # type: ignore[operator]
            try:
                looked_up(network, stage, dataset, split)
            except ConfigError as error:
                raise ConfigError(f"weights={file}: {error}") from error


def looked_up(network: "nn.Module", stage: Stage, dataset: Dataset, split: str) -> "Tensor":
    """What a file of outputs says of a split: logits [N, classes], or embeddings [N, D].

    Raises ConfigError if it lacks images, or has other classes.
    """
    from kdsweep.networks.mapped import given_logits

    outputs: Tensor = network.of(dataset.splits[split].names)  # type: ignore[operator]
    if not has_logits(stage.model):
        return outputs
    if CLASSES not in stage.model and (columns := network.columns(dataset.classes)):  # type: ignore[operator]
        outputs = outputs[:, columns]
    logits = given_logits(outputs, stage.model)
    if logits.shape[1] != len(dataset.classes):
        raise ConfigError(
            f"has {logits.shape[1]} outputs, and the data set has {len(dataset.classes)} classes; name the "
            "class of each output, in order, in teacher.classes"
        )
    return logits
