"""The formats of an export; each file is loaded again and compared with PyTorch."""

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from kdsweep.errors import KdsweepError
from kdsweep.export.predict import INSTALL, ONNX, open_session
from kdsweep.export.preprocessing import INPUT, OUTPUT
from kdsweep.system.foreign_errors import first_line

OPSET = 20  # of ONNX; onnxruntime supports it since 1.17
# relative to the largest logit, or to 1: float32 differs by less when summed in another order
TOLERANCE = 1e-3

Network = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Format:
    """A file's name, and the functions that write and load a network."""

    file: str
    write: Callable[[nn.Module, Tensor, Path], None]
    load: Callable[[Path], Network]


def write_and_compare(network: nn.Module, kind: str, folder: Path, batches: Sequence[Tensor]) -> list[float]:
    """Write the network, in eval mode, and compare its logits with the file's, for batches [B, C, H, W].

    Returns the largest absolute difference in each batch. Raises KdsweepError if the network cannot be
    exported, or if the file gives other logits.
    """
    form, file = FORMATS[kind], folder / FORMATS[kind].file
    # two images: exporters treat a batch of one as a constant
    example = torch.zeros(2, *batches[0].shape[1:])
    try:
        with quiet(), torch.no_grad():
            form.write(network, example, file)
            exported = form.load(file)
            differences = [(exported(batch) - network(batch)).abs().max().item() for batch in batches]
            largest = max(network(batch).abs().max().item() for batch in batches)
    except KdsweepError:
        raise
    except Exception as error:  # exporters raise many types for networks that they do not support
        raise KdsweepError(
            f"--to {kind}: this network cannot be exported: {type(error).__name__}: {first_line(error)}"
        ) from error
    if not max(differences) <= TOLERANCE * max(1, largest):
        raise KdsweepError(
            f"--to {kind}: the exported network gives other logits, by up to {max(differences):.3g}; "
            "nothing was exported"
        )
    return differences


def _write_onnx(network: nn.Module, example: Tensor, file: Path) -> None:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise KdsweepError(f"{error.name} is not installed; {INSTALL}") from error
    torch.onnx.export(
        network,
        (example,),
        file,
        input_names=[INPUT],
        output_names=[OUTPUT],
        opset_version=OPSET,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        external_data=False,
        verbose=False,
    )


def _load_onnx(file: Path) -> Network:
    session = open_session(file)
    return lambda inputs: torch.from_numpy(session.run(None, {INPUT: inputs.numpy()})[0])


def _write_program(network: nn.Module, example: Tensor, file: Path) -> None:
    program = torch.export.export(network, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(program, file)


FORMATS = {
    "onnx": Format(ONNX, _write_onnx, _load_onnx),
    "torch-export": Format("model.pt2", _write_program, lambda file: torch.export.load(file).module()),
    "torchscript": Format(
        "model.torchscript.pt",
        lambda network, example, file: torch.jit.trace(network, example).save(str(file)),
        lambda file: torch.jit.load(str(file)),
    ),
}


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the exporters' messages: the comparison shows what matters."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
