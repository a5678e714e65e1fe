"""A folder with all that builds a network again: its description, its weights, its own code."""

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdsweep.config.code import copy_code
from kdsweep.errors import KdsweepError
from kdsweep.export.chosen import Chosen
from kdsweep.export.preprocessing import Preprocessing

if TYPE_CHECKING:
    from torch import nn

NETWORK, WEIGHTS, CODE = "network.json", "model.safetensors", "code"


def write(chosen: Chosen, weights: Path, folder: Path) -> None:
    """Write what `load` needs into an existing folder."""
    Preprocessing.of(chosen.result.dataset).save(folder)
    described = {"name": chosen.network.name, "role": chosen.role, "model": chosen.network.model}
    (folder / NETWORK).write_text(json.dumps(described, indent=1) + "\n")
    shutil.copyfile(weights, folder / WEIGHTS)
    copy_code(chosen.code(), folder / CODE)


def load(folder: str | Path) -> "nn.Module":
    """The network of such a folder, in eval mode; it gives logits [B, classes] of inputs [B, C, H, W].

    A user's own network is imported from the folder's code. Raises KdsweepError if the folder has no network.
    """
    folder = Path(folder)
    preprocessing = Preprocessing.load(folder)
    try:
        described: dict[str, Any] = json.loads((folder / NETWORK).read_text())
    except (OSError, ValueError) as error:
        raise KdsweepError(f"{folder / NETWORK}: cannot be read ({error})") from error
    if (folder / CODE).is_dir():
        _import_from((folder / CODE).absolute())
    return _built(described["model"], len(preprocessing.classes), preprocessing.shape, folder / WEIGHTS)


def rebuild(chosen: Chosen, weights: Path) -> "nn.Module":
    """A network with its trained weights, in eval mode, where its code is at hand.

    Raises KdsweepError if a user's own code has changed since it was trained.
    """
    chosen.code()
    channels, height, width = chosen.result.dataset["shape"]
    classes = len(chosen.result.dataset["classes"])
    return _built(chosen.network.model, classes, (channels, height, width), weights)


def _built(model: dict[str, Any], classes: int, shape: tuple[int, int, int], weights: Path) -> "nn.Module":
    from kdsweep.networks.build import build
    from kdsweep.networks.weights import load_weights

    network = build(model, classes, shape)
    network.load_state_dict(load_weights(weights))
    return network.eval()


def _import_from(code: Path) -> None:
    """Let the folder's modules come from it, even if others of their names are already imported."""
    own = {path.stem for path in code.iterdir()}
    for name, module in list(sys.modules.items()):
        file = Path(getattr(module, "__file__", None) or "")
        if name.partition(".")[0] in own and not file.is_relative_to(code):
            del sys.modules[name]
    sys.path[:] = [str(code), *(path for path in sys.path if path != str(code))]
