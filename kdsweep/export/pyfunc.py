"""What MLflow loads of a student's model: raw image files in, classes and probabilities out."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kdsweep.data.files.decode import reason
from kdsweep.export import folder
from kdsweep.export.preprocessing import Preprocessing, probabilities

if TYPE_CHECKING:
    import pandas

IMAGE = "image"  # the column of the input
BATCH = 32


def _load_pyfunc(path: str) -> "Student":
    """MLflow calls this to load a model of the flavor python_function from a folder of `folder.write`."""
    return Student(Path(path))


class Student:
    """A network with its preprocessing."""

    def __init__(self, path: Path) -> None:
        self.preprocessing, self.network = Preprocessing.load(path), folder.load(path)

    def predict(self, images: "pandas.DataFrame", params: dict[str, Any] | None = None) -> "pandas.DataFrame":
        """A row per image: its class, the class's probability, the probabilities of all classes in order.

        `images` has a column `image` with the bytes of image files, of any size and format that Pillow reads.
        Raises ValueError for a file that is not an image.
        """
        import pandas

        contents = list(images[IMAGE])
        rows = [row for i in range(0, len(contents), BATCH) for row in self._rows(contents[i : i + BATCH], i)]
        classes = self.preprocessing.classes
        return pandas.DataFrame(
            {
                "class": [classes[int(row.argmax())] for row in rows],
                "probability": [float(row.max()) for row in rows],
                "probabilities": [row.tolist() for row in rows],
            }
        )

    def _rows(self, contents: Sequence[bytes], first: int) -> np.ndarray[Any, Any]:
        import torch

        pixels = []
        for number, content in enumerate(contents, first):
            try:
                pixels.append(self.preprocessing.pixels(content))
            except Exception as error:  # decoders raise many types for broken files
                raise ValueError(f"image {number}: {reason(error)}") from error
        with torch.no_grad():
            inputs = torch.from_numpy(self.preprocessing.inputs(np.stack(pixels)))
            return probabilities(self.network(inputs).numpy())
