"""Networks at work: inputs, device, memory format, logits of a split."""

import warnings
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from kdsweep.config import Augment
from kdsweep.data.augment import augment
from kdsweep.data.dataset import Dataset
from kdsweep.data.mix import mix
from kdsweep.data.split import Split

EVALUATION_BATCH = 128  # small, since a network may enlarge its images
EVALUATION_PIXELS = 2**21  # of a batch: large images get smaller batches
FEATURES_LIMIT = 2**31  # bytes; a frozen front with larger outputs runs in every epoch
ON_DEVICE = 2**31  # bytes; a larger split moves to the device batch by batch


class Batches(Protocol):
    """The input of training and evaluation: labels [N], and inputs by index."""

    labels: Tensor
    evaluation_batch: int

    def batch(self, indices: Tensor) -> Tensor: ...


class Inputs:
    """Images and labels of a split, and then those of a `second`, normalised batch by batch on the device."""

    def __init__(
        self, split: Split, dataset: Dataset, device: torch.device, second: Split | None = None
    ) -> None:
        self.device = device
        splits = [split, second] if second else [split]
        self.labels = torch.cat([torch.tensor(each.labels) for each in splits]).to(device)
        self._classes = len(dataset.classes)
        self._images: Tensor | None = None
        self._parts: list[tuple[Tensor, Tensor]] = []  # images, of which batches take those at rows
        height, width = dataset.shape[1:]
        if len(self.labels) * height * width * dataset.shape[0] <= ON_DEVICE:
            images = [torch.tensor(each.images, device=device) for each in splits]
            self._images = torch.cat(images) if second else images[0]  # torch would copy a single one
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the memory map is read-only, and never written
                self._parts = [(torch.from_numpy(each.source), torch.tensor(each.rows)) for each in splits]
        self.evaluation_batch = max(1, min(EVALUATION_BATCH, EVALUATION_PIXELS // (height * width)))
        # (pixel / 255 - mean) / std as one multiplication and one addition
        self._scale = torch.tensor(1 / (255 * dataset.std), device=device)[:, None, None]
        self._shift = torch.tensor(-dataset.mean / dataset.std, device=device)[:, None, None]

    def batch(self, indices: Tensor) -> Tensor:
        """float32 [B, C, H, W], channels last, of the images at `indices`."""
        return self._normalized(self._raw(indices))

    def first(self) -> Tensor:
        """Two images to try a network on; one image twice if it is alone."""
        return self.batch(torch.arange(2, device=self.device) % len(self.labels))

    def augmented(
        self, indices: Tensor, recipe: Augment, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """As `batch`, with random augmentation, and the labels, float32 [B, classes] of mixed images.

        Images without labels, which come last, are mixed with each other.
        """
        inputs, labels = (
            self._normalized(augment(self._raw(indices), recipe, generator)),
            self.labels[indices],
        )
        if recipe.mixes is None:
            return inputs, labels
        kinds = [labels >= 0, labels < 0]
        parts = [
            mix(inputs[kind], labels[kind].clamp(min=0), recipe, self._classes, generator)
            for kind in kinds
            if kind.any()
        ]
        inputs, labels = (torch.cat(each) for each in zip(*parts, strict=True))
        return inputs.contiguous(memory_format=torch.channels_last), labels

    def _raw(self, indices: Tensor) -> Tensor:
        if self._images is not None:
            return self._images.index_select(0, indices)  # six times faster than images[indices]
        places, found = indices.cpu(), self._parts[0][0].new_empty(len(indices), *self._parts[0][0].shape[1:])
        for images, rows in self._parts:
            here = ((places >= 0) & (places < len(rows))).nonzero()[:, 0]
            found[here] = images.index_select(0, rows[places[here]])
            places = places - len(rows)
        return found.to(self.device)

    def _normalized(self, images: Tensor) -> Tensor:
        inputs = images.to(torch.float32, copy=True).mul_(self._scale).add_(self._shift)
        return inputs.contiguous(memory_format=torch.channels_last)


class Features:
    """The outputs of a network's frozen front over a split [N, …], in place of images."""

    def __init__(self, outputs: Tensor, labels: Tensor) -> None:
        self.labels, self.evaluation_batch = labels, EVALUATION_BATCH
        self._outputs = outputs

    def batch(self, indices: Tensor) -> Tensor:
        return self._outputs.index_select(0, indices)


def place(network: nn.Module, device: torch.device) -> nn.Module:
    """`network` on the device; channels last makes pooling on the CPU up to 15 times faster."""
    return network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def logits(network: nn.Module, inputs: Batches) -> Tensor:
    """The network's float32 outputs [N, …] over a split, in eval mode."""
    return over_split(network.eval(), inputs)


@torch.no_grad()
def over_split(function: Callable[[Tensor], Tensor], inputs: Batches) -> Tensor:
    """The outputs of a function over a split, float32 [N, …], batch by batch."""
    indices = torch.arange(len(inputs.labels), device=inputs.labels.device)
    return torch.cat(
        [function(inputs.batch(part)).float() for part in indices.split(inputs.evaluation_batch)]
    )


@torch.no_grad()
def features(front: nn.Module, inputs: Batches) -> Features | None:
    """The outputs of a frozen front over a split; None if they need too much memory."""
    front.eval()
    one = front(inputs.batch(torch.zeros(1, dtype=torch.int64, device=inputs.labels.device)))
    if one.numel() * one.element_size() * len(inputs.labels) > FEATURES_LIMIT:
        return None
    return Features(logits(front, inputs), inputs.labels)


def selection_metrics(outputs: Tensor, labels: Tensor) -> dict[str, float]:
    """The figures of selection: accuracy and cross-entropy of logits [N, C] on the validation split."""
    loss = nn.functional.cross_entropy(outputs, labels)
    accuracy = outputs.argmax(dim=1).eq(labels).double().mean()
    return {"val/accuracy": accuracy.item(), "val/cross_entropy": loss.item()}
