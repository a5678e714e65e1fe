"""The classes that a file of weights was trained for; kdsweep stores them in the file."""

import json
import logging
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from kdsweep.errors import ConfigError
from kdsweep.networks.weights import WEIGHTS, load_weights, weights_digest
from kdsweep.stage import digest
from kdsweep.store.origin import Origin
from kdsweep.store.store import Store

log = logging.getLogger(__name__)

CLASSES = "classes"  # in the metadata of a safetensors file


def metadata(classes: Sequence[str]) -> dict[str, str]:
    """The metadata of a file of weights: its classes, in the order of the outputs."""
    return {CLASSES: json.dumps(list(classes))}


def for_classes(
    weights: str,
    file: Path,
    model: Mapping[str, Any],
    classes: Sequence[str],
    shape: tuple[int, int, int],
    store: Store,
    mapping: str | None = None,
) -> Path:
    """The file to begin with: `file`, or a copy without the head if that was trained for other classes.

    The head's shape shows another number of classes; for the same number the names decide, if the file has
    them. Raises ConfigError for the same classes in another order, and for more of them where the key
    `mapping` would say which are meant.
    """
    known = _trained_for(file, weights_digest(file))
    if known is None or known == tuple(classes):
        return file
    named = json.dumps(list(known), ensure_ascii=False, separators=(",", ":"))
    if mapping and set(classes) <= set(known):
        more = (
            "more classes than the data set" if len(known) > len(classes) else "its classes in another order"
        )
        raise ConfigError(f"weights={weights}: has {more}; map them with {mapping}={named}")
    if len(known) != len(classes):
        return file
    if set(known) == set(classes):
        raise ConfigError(
            f"weights={weights}: has the data set's classes in another order; take its order with "
            f"dataset.classes={named}"
        )
    log.warning(
        "weights=%s: trained for other classes (%s) than these (%s); the head begins anew",
        *(weights, ", ".join(known[:3]), ", ".join(classes[:3])),
    )
    description = {"without head": weights_digest(file), "model": model}

    def make(folder: Path) -> None:
        from safetensors.torch import save_file

        from kdsweep.networks.build import build
        from kdsweep.networks.parts import head_of

        network = build(model, len(classes), shape)
        head = {id(tensor) for tensor in head_of(network).state_dict(keep_vars=True).values()}
        names = {name for name, tensor in network.state_dict(keep_vars=True).items() if id(tensor) in head}
        save_file(
            {name: each for name, each in load_weights(file).items() if name not in names}, folder / WEIGHTS
        )

    origin = Origin(
        "weights without head", description, [file.parent.name] if file.parent.parent == store.root else []
    )
    return store.obtain(digest(description), make, origin=origin)[0] / WEIGHTS


@lru_cache
def _trained_for(file: Path, content: str) -> tuple[str, ...] | None:
    """The classes that a file of this content names; None if it names none."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as opened:
            return tuple(json.loads((opened.metadata() or {})[CLASSES]))
    except (
        SafetensorError,
        OSError,
        KeyError,
        ValueError,
        TypeError,
    ):  # no safetensors file, or not one of kdsweep's
        return None
