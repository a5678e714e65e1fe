"""Classes of image files by an exported ONNX file, with numpy, Pillow and onnxruntime, without torch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kdsweep.data.files.decode import reason
from kdsweep.data.files.folders import PassedOver, files_below, is_image
from kdsweep.errors import KdsweepError
from kdsweep.export.preprocessing import Preprocessing, probabilities

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

INSTALL = "pip install 'kdsweep[export]', or '.[export]' in a clone"
ONNX, INT8 = "model.onnx", "model.int8.onnx"


@dataclass(frozen=True)
class Predicted:
    """A file with its classes and their probabilities, the most probable first, or with its error."""

    file: Path
    classes: Sequence[tuple[str, float]] = ()
    error: str = ""


class Predictor:
    """The ONNX model of an exported folder, on the CPU; `name` is one of its files.

    Raises KdsweepError if the folder has no model, or a model that does not fit its preprocessing.
    """

    def __init__(self, folder: Path, name: str | None = None) -> None:
        if not folder.is_dir():
            raise KdsweepError(f"{folder}: no such folder; name a folder that kdsweep-export made")
        self.preprocessing = Preprocessing.load(folder)
        self.file = _model(folder, name)
        self._session = open_session(self.file)
        classes, shape = len(self.preprocessing.classes), list(self.preprocessing.shape)
        (images,), (logits,) = self._session.get_inputs(), self._session.get_outputs()
        if list(images.shape[1:]) != shape or logits.shape[-1] != classes:
            raise KdsweepError(
                f"{self.file}: takes images of {images.shape[1:]} and gives {logits.shape[-1]} classes, but "
                f"preprocessing.json has {shape} and {classes}; export again"
            )
        self._input = images.name

    def logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits [B, classes] of pixels [B, C, H, W]."""
        inputs = self.preprocessing.inputs(pixels)
        outputs: NDArray[np.float32] = self._session.run(None, {self._input: inputs})[0]
        return outputs

    def predict(self, files: Sequence[Path], top: int = 1, batch: int = 32) -> Iterator[Predicted]:
        """Yields the `top` classes of each file, in the order of the files, `batch` files at a time."""
        for start in range(0, len(files), batch):
            part = files[start : start + batch]
            decoded = [self._decode(file) for file in part]
            pixels = [each for each in decoded if not isinstance(each, str)]
            rows = iter(probabilities(self.logits(np.stack(pixels)))) if pixels else iter(())
            for file, each in zip(part, decoded, strict=True):
                if isinstance(each, str):
                    yield Predicted(file, error=each)
                    continue
                row = next(rows)
                likeliest = np.argsort(-row, kind="stable")[:top]
                names = self.preprocessing.classes
                yield Predicted(file, [(names[index], float(row[index])) for index in likeliest])

    def _decode(self, file: Path) -> NDArray[np.uint8] | str:
        """The pixels of a file, or its error."""
        try:
            return self.preprocessing.pixels(file.read_bytes())
        except MemoryError:  # the file may be fine
            raise
        except Exception as error:  # decoders raise many types for broken files
            return reason(error)


def image_files(named: Sequence[str]) -> list[Path]:
    """The named files, and the images at any depth below named folders, by path.

    Raises KdsweepError for a folder without images.
    """
    files: list[Path] = []
    for each in map(Path, named):
        if not each.is_dir():
            files.append(each)
            continue
        passed = PassedOver()
        paths = [each / path for path in sorted(files_below(each, passed)) if is_image(path)]
        below = [path for path in paths if not path.is_fifo()]  # reading a pipe would wait for its writer
        passed.warn(each)
        if not below:
            raise KdsweepError(f"{each}: no images in this folder")
        files += below
    return files


def open_session(file: Path) -> "InferenceSession":
    """An onnxruntime session on the CPU.

    Raises KdsweepError if the file is not a model, or onnxruntime is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise KdsweepError(f"onnxruntime is not installed; {INSTALL}") from error
    onnxruntime.set_default_logger_severity(3)  # errors only: its warnings are about optimisations
    try:
        return onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common type
        why = " ".join(str(error).split())[:200]
        raise KdsweepError(f"{file}: is not an ONNX model that onnxruntime can read ({why})") from error


def _model(folder: Path, name: str | None) -> Path:
    """The named model, else the float one, else the quantised one."""
    models = [file for file in (ONNX, INT8) if (folder / file).is_file()]
    if name and not (folder / name).is_file():
        raise KdsweepError(f"{folder / name}: no such model; the folder has {', '.join(models) or 'none'}")
    if not name and not models:
        raise KdsweepError(f"{folder}: has no {ONNX}; make one by kdsweep-export … --to onnx --out FOLDER")
    return folder / (name or models[0])
