"""A student as MLflow's model: that of a single job, or the best one of a sweep."""

import io
import logging
from collections.abc import Sequence
from importlib.metadata import version

import numpy as np
from PIL import Image

from kdsweep.config import Tracking
from kdsweep.errors import explain
from kdsweep.export.chosen import Chosen, best_of_each, weights_file
from kdsweep.export.folder import write
from kdsweep.export.preprocessing import Preprocessing
from kdsweep.export.pyfunc import IMAGE
from kdsweep.results.record import Record
from kdsweep.results.result import JobResult, SweepInfo
from kdsweep.tracking.model import MODEL, Loggable, log_model, register

log = logging.getLogger(__name__)

PACKAGES = ("torch", "safetensors", "pillow", "numpy", "pandas", "timm", "torchvision")


def log_student(
    sweep: SweepInfo, results: Sequence[JobResult], tracking: Tracking, name: str | None
) -> list[str]:
    """Log the best student of each data set into its run, and register it if there is a name.

    Returns a line for each step. A failure is only a warning: the weights are in the store and in the run.
    """
    in_mlflow = [result for result in results if result.run_id]
    lines = []
    try:
        for _, best in filter(None, best_of_each([Record(sweep, in_mlflow)]).values()):
            chosen, run_id, data = Chosen(sweep, best), str(best.run_id), best.dataset["fingerprint"]
            model_id = log_model(tracking.uri, run_id, _loggable(chosen, tracking))
            lines.append(f"runs:/{run_id}/{MODEL}")
            if name and (val := chosen.network.val):  # versions are compared by it
                tags = {"kdsweep.run": run_id, "kdsweep.stage": chosen.network.key}
                lines.append(register(tracking.uri, name, model_id, run_id, val.accuracy, data, tags))
    except Exception as error:  # whatever fails in MLflow, the sweep is done
        log.warning("the student is not logged as an MLflow model: %s", explain(error))
    return lines


def _loggable(chosen: Chosen, tracking: Tracking) -> Loggable:
    weights = weights_file(chosen, tracking)
    return Loggable(
        lambda folder: write(chosen, weights, folder),
        "kdsweep.export.pyfunc",
        IMAGE,
        _example(Preprocessing.of(chosen.result.dataset)),
        [f"{name}=={version(name)}" for name in ("kdsweep", *PACKAGES)],
    )


def _example(preprocessing: Preprocessing) -> bytes:
    """A PNG file of a grey gradient, in the network's size and colours: nobody's picture."""
    size = preprocessing.image_size
    gradient = np.linspace(0, 255, size, dtype=np.uint8)[None].repeat(size, axis=0)
    stream = io.BytesIO()
    Image.fromarray(gradient).convert(preprocessing.mode).save(stream, "png")
    return stream.getvalue()
