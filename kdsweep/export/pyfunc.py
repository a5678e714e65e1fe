"""What MLflow loads of a student's model: raw image files in, classes and probabilities out."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdsweep.data.files.decode import reason
from kdsweep.export import folder
from kdsweep.export.classify import Classifier
from kdsweep.export.preprocessing import Preprocessing

if TYPE_CHECKING:
    import pandas

IMAGE = "image"  # the column of the input


def _load_pyfunc(path: str) -> "Student":
    """MLflow calls this to load a model of the flavor python_function from a folder of `folder.write`."""
    return Student(Path(path))


class Student:
    """A network with its preprocessing."""

    def __init__(self, path: Path) -> None:
        self.classifier = Classifier(Preprocessing.load(path), folder.load(path))

    def predict(self, images: "pandas.DataFrame", params: dict[str, Any] | None = None) -> "pandas.DataFrame":
        """A row per image: its class, the class's probability, the probabilities of all classes in order.

        `images` has a column `image` with the bytes of image files, of any size and format that Pillow reads.
        Raises ValueError for a file that is not an image.
        """
        return self.classifier.classes(list(enumerate(images[IMAGE])), self._pixels)

    def _pixels(self, image: tuple[int, bytes]) -> Any:
        number, content = image
        try:
            return self.classifier.preprocessing.pixels(content)
        except Exception as error:  # decoders raise many types for broken files
            raise ValueError(f"image {number}: {reason(error)}") from error
