"""Classes of images by a network in PyTorch, with the preprocessing of its training."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from kdsweep.data.files.decode import reason
from kdsweep.errors import KdsweepError
from kdsweep.export.predict import image_files
from kdsweep.export.preprocessing import Preprocessing, probabilities

if TYPE_CHECKING:
    import pandas
    from torch import nn

BATCH = 32

Image = TypeVar("Image")
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Classifier:
    """A network on the CPU, in eval mode, with its preprocessing."""

    preprocessing: Preprocessing
    network: "nn.Module"

    def of_images(self, images: Any) -> "pandas.DataFrame":
        """As `classes`, for pixels [N, C, H, W] or [N, H, W, C], or for files, whose paths name the rows.

        Raises KdsweepError for anything else.
        """
        if isinstance(images, str | PathLike):
            images = [images]
        if not _are_paths(images):
            return self.classes(list(self._pixels(images)), lambda pixels: pixels)
        files = image_files([str(each) for each in images])
        table = self.classes(files, self._decode)
        return table.set_index([[str(file) for file in files]])

    def classes(self, images: Sequence[Image], pixels: Callable[[Image], Pixels]) -> "pandas.DataFrame":
        """A row per image: its class, the class's probability, the probabilities of all classes in order.

        `pixels` gives those of an image, [C, H, W].
        """
        import pandas

        batches = (images[start : start + BATCH] for start in range(0, len(images), BATCH))
        rows = [row for batch in batches for row in self._rows(batch, pixels)]
        names = self.preprocessing.classes
        return pandas.DataFrame(
            {
                "class": [names[int(row.argmax())] for row in rows],
                "probability": [float(row.max()) for row in rows],
                "probabilities": [row.tolist() for row in rows],
            }
        )

    def _rows(self, images: Sequence[Image], pixels: Callable[[Image], Pixels]) -> NDArray[np.float64]:
        import torch

        with torch.no_grad():
            inputs = torch.from_numpy(self.preprocessing.inputs(np.stack([pixels(each) for each in images])))
            return probabilities(self.network(inputs).numpy())

    def _decode(self, file: Path) -> Pixels:
        try:
            return self.preprocessing.pixels(file.read_bytes())
        except MemoryError:  # the file may be fine
            raise
        except Exception as error:  # decoders raise many types for broken files
            raise KdsweepError(f"{file}: {reason(error)}") from error

    def _pixels(self, images: Any) -> Pixels:
        """Pixels as [N, C, H, W]."""
        array = np.asarray(images)
        channels, height, width = self.preprocessing.shape
        if array.dtype == np.uint8:
            if array.shape[1:] == (channels, height, width):
                return array
            if array.shape[1:] == (height, width, channels):
                return array.transpose(0, 3, 1, 2)
            if channels == 1 and array.shape[1:] == (height, width):
                return array[:, None]
        raise KdsweepError(
            f"images: {array.dtype} {list(array.shape)}; must be paths of image files, or pixels from 0 to "
            f"255 as uint8, [N, {channels}, {height}, {width}] or [N, {height}, {width}, {channels}]"
        )


def _are_paths(images: Any) -> bool:
    return isinstance(images, list | tuple) and bool(images) and isinstance(images[0], str | PathLike)
