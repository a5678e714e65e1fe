"""A network that another program exported, in a file of ONNX, TorchScript or torch.export."""

import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from kdsweep.errors import ConfigError
from kdsweep.networks.backbone import Preprocess
from kdsweep.system.foreign_errors import first_line

Run = Callable[[Tensor], Tensor]
INSTALL = "pip install 'kdsweep[export]'"
TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}


class Exported(nn.Module):
    """What the network in a file gives [B, outputs] for images [B, C, H, W] in [0, 1].

    Images are resized to `size`, the side or [height, width] (null: what the file says, else their own), and
    normalised by the `mean` and `std` of each channel; `layout` is the order in which the network takes their
    dimensions. `output` is the name or number of the output if there are several.

    Its only tensor is the file's content, so that the store has all that it needs. Raises ConfigError for a
    file of another kind.
    """

    content: Tensor

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        image_size: tuple[int, int],
        size: int | Sequence[int] | None = None,
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
        layout: Literal["NCHW", "NHWC"] = "NCHW",
        output: int | str = 0,
    ) -> None:
        super().__init__()
        self.image_size = image_size
        sides = [size, size] if isinstance(size, int) else size
        if sides is not None and (
            len(sides) != 2 or not all(type(each) is int and each > 0 for each in sides)
        ):
            raise ConfigError(f"model.size={size}: must be a number of pixels, or [height, width]")
        self.size = (sides[0], sides[1]) if sides else None
        if len(mean) != len(std) or (in_channels > 1 and len(mean) not in (1, in_channels)):
            raise ConfigError(
                f"model.mean, model.std: have {len(mean)} and {len(std)} numbers; must have one for each of "
                f"the images' {in_channels} channels, or one for all"
            )
        if layout not in ("NCHW", "NHWC"):
            raise ConfigError(f"model.layout={layout}: allowed: NCHW, NHWC")
        self.mean, self.std, self.layout, self.output = list(mean), list(std), layout, output
        self.register_buffer("content", torch.empty(0, dtype=torch.uint8))
        self._run: Run | None = None

    def read(self, file: Path) -> None:
        """Take the content of a file."""
        self.content = torch.frombuffer(bytearray(file.read_bytes()), dtype=torch.uint8)
        self._run = None

    def _load_from_state_dict(self, state: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        self.content, self._run = state[f"{prefix}content"], None

    def forward(self, images: Tensor) -> Tensor:
        if self._run is None:
            self._run = self._opened()
        return self._run(images).flatten(1)

    def _opened(self) -> Run:
        content = self.content.cpu().numpy().tobytes()
        kind = _kind(content)
        device = self.content.device
        run, expected = {"onnx": _onnx, "script": _script, "export": _export}[kind](
            content, device, self.output
        )
        if self.layout == "NHWC" and expected:
            expected = (expected[0], expected[3], expected[1], expected[2])
        size = self.size or _size(expected) or self.image_size
        resized = None if size == self.image_size else size
        preprocess = Preprocess(self.mean, self.std, resized, 1).to(device)
        batch = expected[0] if expected and isinstance(expected[0], int) else None

        def compute(images: Tensor) -> Tensor:
            ready = preprocess(images.float())
            ready = ready.permute(0, 2, 3, 1) if self.layout == "NHWC" else ready
            ready = ready.contiguous()
            return _in_batches(run, ready, batch) if batch else run(ready)

        return compute


def _kind(content: bytes) -> Literal["onnx", "script", "export"]:
    if not zipfile.is_zipfile(BytesIO(content)):
        return "onnx"
    names = zipfile.ZipFile(BytesIO(content)).namelist()
    if any("/code/" in name for name in names):
        return "script"
    if any(name.endswith(("models/model.json", "serialized_exported_program.json")) for name in names):
        return "export"
    raise ConfigError(
        "its file holds weights without their network; name the network in model._target_, as in "
        "docs/your-own.md, and give the file as its weights"
    )


def _size(shape: Sequence[Any] | None) -> tuple[int, int] | None:
    """Height and width that the shape of an input fixes."""
    sizes = list(shape or ())[2:]
    return (sizes[0], sizes[1]) if len(sizes) == 2 and all(type(size) is int for size in sizes) else None


def _in_batches(run: Run, images: Tensor, size: int) -> Tensor:
    """For a network that takes batches of one size alone; the last is filled up with its last image."""
    parts = []
    for part in images.split(size):
        missing = size - len(part)
        filled = torch.cat([part, part[-1:].expand(missing, *part.shape[1:])]) if missing else part
        parts.append(run(filled)[: len(part)])
    return torch.cat(parts)


Opened = tuple[Run, Sequence[Any] | None]  # the shape of its input, where the file says it


def _onnx(content: bytes, device: torch.device, output: int | str) -> Opened:
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigError(f"onnxruntime is not installed, which runs ONNX files; {INSTALL}") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises types of its own
        raise ConfigError(
            "its file is no ONNX, TorchScript or torch.export file that can be opened "
            f"({first_line(error)}); an ONNX model must be in one file, with its weights"
        ) from error
    names, (taken, *more) = [each.name for each in session.get_outputs()], session.get_inputs()
    if more or taken.type not in TYPES:
        found = ", ".join(f"{each.name}: {each.type}" for each in (taken, *more))
        raise ConfigError(f"its file takes {found}; must take images alone, as floating-point numbers")
    if (output not in names) if isinstance(output, str) else not 0 <= output < len(names):
        raise ConfigError(f"model.output={output}: no such output; allowed: {', '.join(names)}, or a number")
    name = output if isinstance(output, str) else names[output]
    dtype = TYPES[taken.type]

    def run(images: Tensor) -> Tensor:
        (found,) = session.run([name], {taken.name: images.cpu().numpy().astype(dtype)})
        return torch.from_numpy(np.asarray(found, np.float32)).to(device)

    return run, taken.shape


def _script(content: bytes, device: torch.device, output: int | str) -> Opened:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch advises its successor
        network = torch.jit.load(BytesIO(content), map_location=device).eval()
    return lambda images: _one_of(network(images), output), None


def _export(content: bytes, device: torch.device, output: int | str) -> Opened:
    from torch.export.passes import move_to_device_pass

    program = torch.export.load(BytesIO(content))
    if device.type != "cpu":
        program = move_to_device_pass(program, device)
    network = program.module()
    given = program.example_inputs[0][0] if program.example_inputs else None
    # the first size is that of any batch, if the program allows it; its checks tell otherwise
    shape = ("batch", *given.shape[1:]) if isinstance(given, Tensor) else None
    return lambda images: _one_of(network(images), output), shape


def _one_of(found: Any, output: int | str) -> Tensor:
    if isinstance(found, Tensor):
        return found
    try:
        chosen = found[output]
    except (KeyError, IndexError, TypeError) as error:
        allowed = list(found) if isinstance(found, Mapping) else list(range(len(found)))
        raise ConfigError(f"model.output={output}: no such output; allowed: {allowed}") from error
    if not isinstance(chosen, Tensor):
        raise ConfigError(f"model.output={output}: is {type(chosen).__name__}, not a tensor")
    return chosen
