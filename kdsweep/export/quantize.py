"""An ONNX file in eight bits, with its accuracy beside that of the float file."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kdsweep.data.dataset import Dataset
from kdsweep.data.split import Split
from kdsweep.errors import KdsweepError
from kdsweep.export.formats import quiet
from kdsweep.export.predict import INSTALL, INT8, ONNX, Predictor
from kdsweep.export.preprocessing import INPUT, Preprocessing

CALIBRATION = 256  # training images, which show the ranges of activations
BATCH = 32


@dataclass(frozen=True)
class Worth:
    """A file's accuracy on the test split, and its size in bytes."""

    accuracy: float
    bytes: int


def quantize(folder: Path, how: str, dataset: Dataset) -> dict[str, Worth]:
    """Write the ONNX file of `folder` in eight bits beside it; returns the worth of both, by file name.

    `dynamic` stores the weights of dense layers in eight bits and measures the range of their inputs in each
    batch; convolutions stay as they are. `static` puts all layers into eight bits, with ranges measured once
    on training images.
    """
    try:
        import onnx
        from onnxruntime import quantization
    except ImportError as error:
        raise KdsweepError(f"{error.name} is not installed; {INSTALL}") from error

    model = onnx.load(folder / ONNX)
    del model.graph.value_info[:]  # it has shapes of weights, which the quantiser transposes
    target = folder / INT8
    try:
        with quiet():  # onnxruntime advises to prepare the model in another way
            if how == "dynamic":
                quantization.quantize_dynamic(
                    model, target, op_types_to_quantize=["MatMul"], per_channel=True, reduce_range=True
                )
            else:
                quantization.quantize_static(
                    model,
                    target,
                    _Calibration(Preprocessing.load(folder), dataset.train),
                    per_channel=True,
                    reduce_range=True,  # products of eight bits overflow on CPUs without VNNI
                    activation_type=quantization.QuantType.QUInt8,
                )
    except Exception as error:  # onnxruntime raises many types for networks that it cannot quantise
        raise KdsweepError(f"--quantize {how}: this network cannot be quantised: {error}") from error
    return {name: worth(folder, name, dataset.test) for name in (ONNX, INT8)}


def worth(folder: Path, name: str, test: Split) -> Worth:
    """The accuracy of a model of an exported folder on a split, and its size."""
    predictor = Predictor(folder, name)
    right = 0
    for part in _batches(len(test.rows)):
        logits = predictor.logits(test.source[test.rows[part]])
        right += int((logits.argmax(axis=1) == test.labels[part]).sum())
    return Worth(right / len(test.labels), predictor.file.stat().st_size)


class _Calibration:
    """Training images as onnxruntime reads them: a batch at a time, then None."""

    def __init__(self, preprocessing: Preprocessing, train: Split) -> None:
        count = min(CALIBRATION, len(train.rows))
        self._inputs = (preprocessing.inputs(train.source[train.rows[part]]) for part in _batches(count))

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        inputs = next(self._inputs, None)
        return None if inputs is None else {INPUT: inputs}


def _batches(count: int) -> Iterator[slice]:
    return (slice(start, min(start + BATCH, count)) for start in range(0, count, BATCH))
