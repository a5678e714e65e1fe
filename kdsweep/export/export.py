"""The story of an export: choose → check the folder → write and compare the formats → card → rename."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from kdsweep.config import Tracking
from kdsweep.data.dataset import Dataset
from kdsweep.errors import DataError, KdsweepError
from kdsweep.export import folder
from kdsweep.export.card import card, usage_of
from kdsweep.export.chosen import choose, images_of, weights_file
from kdsweep.export.formats import FORMATS, OPSET, write_and_compare
from kdsweep.export.predict import INT8
from kdsweep.export.preprocessing import PREPROCESSING, Preprocessing
from kdsweep.export.quantize import Worth, quantize
from kdsweep.results.record import Record
from kdsweep.system.terminal import size

COMPARED = 64  # images in the larger batch
PACKAGES = ("kdsweep", "torch", "onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class Order:
    """What to export: formats, target folder, the network's role, the job's number (None: the best job)."""

    kinds: Sequence[str]
    out: Path
    role: str = "student"
    job: int | None = None
    quantize: str | None = None
    force: bool = False


@dataclass
class Exported:
    """The result; `differences` are the largest ones of logits by format: in a batch of one, in a larger."""

    folder: str
    network: str
    run_id: str | None
    job: int
    val_accuracy: float | None  # None if no image was held back for validation
    test_accuracy: float
    files: dict[str, int] = field(default_factory=dict)  # bytes, by name
    compared_on: str = ""
    batches: list[int] = field(default_factory=list)
    differences: dict[str, list[float]] = field(default_factory=dict)
    quantized: str | None = None
    worth: dict[str, Worth] = field(default_factory=dict)  # on the test split by onnxruntime, by file name

    def as_json(self) -> str:
        return json.dumps(asdict(self), indent=1)


def export(records: Sequence[Record], order: Order, tracking: Tracking) -> Exported:
    """Make the folder of an export, or nothing at all.

    Raises KdsweepError if the network is missing or cannot be exported in a format, or the folder is taken.
    """
    _refuse_taken(order)
    chosen = choose(records, order.job, order.role)
    weights = weights_file(chosen, tracking)
    result, val = chosen.result, chosen.network.val
    done = Exported(
        str(order.out), chosen.title, result.run_id, result.number,
        val.accuracy if val else None, chosen.network.test.accuracy, quantized=order.quantize,
    )  # fmt: skip
    out = order.out.resolve()  # also where it is named "."
    out.parent.mkdir(parents=True, exist_ok=True)
    with (
        TemporaryDirectory(prefix="kdsweep-") as aside,
        TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as beside,
    ):
        target = Path(beside) / out.name
        target.mkdir()
        folder.write(chosen, weights, target)
        dataset, why = None, ""
        try:
            dataset = images_of(chosen, aside)
        except DataError as error:
            why = str(error).splitlines()[0]
            if order.quantize:
                raise KdsweepError(
                    f"--quantize {order.quantize}: needs the data set to measure the accuracy: {why}"
                ) from error
        _write_formats(order, target, dataset, why, done)
        if order.quantize and dataset:
            done.worth = quantize(target, order.quantize, dataset)
        if "safetensors" not in order.kinds:
            for name in (folder.WEIGHTS, folder.NETWORK):
                (target / name).unlink()
            shutil.rmtree(target / folder.CODE, ignore_errors=True)
        usage = usage_of(order.kinds, (target / folder.CODE).is_dir())
        (target / "README.md").write_text(card(chosen, usage, _checks(done), _versions()), "utf-8")
        for cache in target.rglob("__pycache__"):
            shutil.rmtree(cache)
        done.files = {
            str(file.relative_to(target)): file.stat().st_size
            for file in sorted(target.rglob("*"))
            if file.is_file()
        }
        if out.exists() and any(out.iterdir()):
            out.rename(target.with_name("before"))  # an earlier export, which the new one replaces
        target.rename(out)
    return done


def _refuse_taken(order: Order) -> None:
    out = order.out
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / PREPROCESSING).is_file():
        raise KdsweepError(f"--out {out}: already exists and is not an export folder; choose a new folder")
    if not order.force:
        raise KdsweepError(f"--out {out}: holds an export; choose another folder, or replace it by --force")


def _write_formats(order: Order, target: Path, dataset: Dataset | None, why: str, done: Exported) -> None:
    """Write each format and compare it with PyTorch, on test images or, without them, on noise."""
    preprocessing = Preprocessing.load(target)
    if dataset is None:
        done.compared_on = f"noise, because the data set is unavailable ({why})"
        pixels = np.random.RandomState(0).randint(0, 256, (COMPARED, *preprocessing.shape)).astype(np.uint8)
    else:
        done.compared_on = "test images"
        pixels = dataset.test.source[dataset.test.rows[:COMPARED]]
    inputs = torch.from_numpy(preprocessing.inputs(pixels))
    done.batches = [1, len(inputs)]
    network = folder.load(target)
    for kind in filter(FORMATS.__contains__, order.kinds):
        done.differences[kind] = write_and_compare(network, kind, target, [inputs[:1], inputs])


def _checks(done: Exported) -> list[str]:
    """What was measured, in a line for each file."""
    lines = []
    batches = " and ".join(f"a batch of {size}" for size in done.batches)
    for kind, differences in done.differences.items():
        largest = " and ".join(f"{difference:.2g}" for difference in differences)
        opset = f", opset {OPSET}" if kind == "onnx" else ""
        lines.append(
            f"{FORMATS[kind].file} ({kind}{opset}): logits differ from PyTorch's by at most {largest} "
            f"in {batches} of {done.compared_on}"
        )
    for name, worth in done.worth.items():
        how = f", quantised, {done.quantized}" if name == INT8 else ""
        lines.append(f"{name}{how}: test accuracy {worth.accuracy:.2%}, {worth.bytes / 1e6:.3g} MB")
    return lines


def show(done: Exported) -> str:
    """The result of an export, for people."""
    val = "" if done.val_accuracy is None else f"val {done.val_accuracy:.2%}, "
    head = f"{done.network}: {val}test {done.test_accuracy:.2%}"
    width = max(map(len, done.files))
    listed = [f"  {name:<{width}}  {size(count):>8}" for name, count in done.files.items()]
    return "\n".join([head, *(f"  {line}" for line in _checks(done)), f"{done.folder}:", *listed])


def _versions() -> dict[str, str]:
    """The versions of PACKAGES; those of formats that nobody asked for may be missing."""
    return {name: version(name) for name in PACKAGES if find_spec(name)}
