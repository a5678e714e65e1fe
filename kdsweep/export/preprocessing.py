"""From an image file to a network's input; kdsweep-predict imports this, so it imports little itself."""

import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from kdsweep.data.files.decode import DEEP, WHITE, Look, decode
from kdsweep.errors import KdsweepError
from kdsweep.results.dataset import DatasetInfo

PREPROCESSING = "preprocessing.json"
INPUT, OUTPUT = "images", "logits"  # the names of a model's input and output
MODES = {1: "L", 3: "RGB"}  # Pillow's names, by the number of channels

# the same for all models, for people who write their own preprocessing
STEPS = {
    "exif_orientation": "applied",
    "interpolation": "bicubic, antialiased (Pillow)",
    "scale": 1 / 255,
    "layout": "NCHW",
    "dtype": "float32",
    "input": INPUT,
    "output": OUTPUT,
}


@dataclass(frozen=True)
class Preprocessing:
    """Decode as `mode`, resize to a square, scale to [0, 1], subtract `mean` and divide by `std`.

    `resize` is squash, or crop: the shorter side becomes `image_size`, then the middle is taken. `mean` and
    `std` are per channel, for pixels in [0, 1]. `classes` name the logits in their order. Transparent images
    are composed onto `background`; in files of 16 bits whose format does not state its range, the values of
    `deep_range` become 0 and 255.
    """

    mode: str
    image_size: int
    resize: str
    mean: Sequence[float]
    std: Sequence[float]
    classes: Sequence[str]
    background: Sequence[int] = WHITE
    deep_range: Sequence[int] = DEEP

    @classmethod
    def of(cls, dataset: DatasetInfo) -> Self:
        """The preprocessing of a data set, as a job's result describes it."""
        channels, height, width = dataset["shape"]
        if height != width or channels not in MODES:
            raise KdsweepError(
                f"{dataset['name']}: images of {channels}×{height}×{width} cannot be made from image files; "
                "they must be square, of 1 or 3 channels"
            )
        return cls(
            MODES[channels], height, dataset["resize"], dataset["mean"], dataset["std"], dataset["classes"],
            dataset.get("background") or WHITE,
            dataset.get("deep_range") or DEEP,
        )  # fmt: skip

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The preprocessing of an exported folder. Raises KdsweepError if it is missing."""
        file = folder / PREPROCESSING
        try:
            known = json.loads(file.read_text())
            return cls(**{name: known[name] for name in cls.__dataclass_fields__ if name in known})
        except FileNotFoundError:
            raise KdsweepError(
                f"{folder}: has no {PREPROCESSING}; name a folder that kdsweep-export made"
            ) from None
        except (OSError, ValueError, TypeError) as error:
            raise KdsweepError(f"{file}: cannot be read ({error}); export again") from error

    def save(self, folder: Path) -> None:
        (folder / PREPROCESSING).write_text(json.dumps({**asdict(self), **STEPS}, indent=1) + "\n")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width of an image."""
        return len(self.mean), self.image_size, self.image_size

    def pixels(self, content: bytes) -> NDArray[np.uint8]:
        """The pixels [C, H, W] of a file's content. Raises what Pillow raises if it is not an image."""
        (red, green, blue), (low, high) = self.background, self.deep_range
        look = Look(self.image_size, self.resize, self.mode, (red, green, blue), (low, high))
        with warnings.catch_warnings(action="ignore"):  # Pillow warns of garbled metadata: only pixels count
            return decode(content, look).pixels

    def inputs(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The network's inputs for pixels, both [B, C, H, W], bit for bit as in training."""
        mean, std = (np.array(each, np.float32)[:, None, None] for each in (self.mean, self.std))
        return pixels.astype(np.float32) * (1 / (255 * std)) + -mean / std


def probabilities(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """The softmax of logits [B, classes]."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    softmax: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return softmax
