"""How the tensors of a file fit a network, wherever they are in the file."""

import logging
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from kdsweep.errors import ConfigError
from kdsweep.networks.parts import head_names
from kdsweep.system.progress import once

log = logging.getLogger(__name__)

# The words of prefixes of a network's tensors. If several networks fit, the first one counts: averaged
# weights, as in timm; then those of the training itself; then a student before its teacher.
WORDS = (
    *("state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "ema", ""),
    *("state_dict", "model_state_dict", "model", "net", "network", "module", "student", "model_s"),
    *("backbone", "encoder", "teacher", "model_t"),
)
# torch inserts these into the names of tensors when it compiles or shards parts of a network.
WRAPPED = re.compile(r"(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
LARGEST = 1e18  # of weights; products of larger ones exceed float32


@dataclass(frozen=True)
class _Fit:
    """How the tensors under a prefix fit a network."""

    prefix: str
    given: Mapping[str, Tensor]  # by the network's names
    lacking: Sequence[str]  # by the network's names
    left: Sequence[str]  # names in the file, under the prefix, that the network does not have
    beside: Sequence[str]  # names beside the prefix
    own_names: bool  # whether the file has names of the network's, not of its library's

    @property
    def words(self) -> list[str]:
        return re.split("[./]", self.prefix.rstrip("./"))

    @property
    def is_whole(self) -> bool:
        return not self.lacking and not self.left and (not self.beside or self.words[-1] in WORDS)

    @property
    def rank(self) -> list[int]:
        """The order of preference, by the prefix's words from the outermost."""
        return [WORDS.index(word) if word in WORDS else len(WORDS) for word in self.words]

    @property
    def distance(self) -> tuple[bool, int, str]:
        """From fitting: a prefix that is no wrapper's, such as a layer's, is farther than any other."""
        return len(WORDS) in self.rank, len(self.lacking) + len(self.left), self.prefix


def begin_with(network: nn.Module, tensors: Mapping[str, Tensor], file: Path, trained: bool = True) -> None:
    """Copy `tensors` into `network`. Its head keeps fresh weights if the file's do not fit or are missing.

    The tensors may have a prefix, in a part of a checkpoint; the one that fits everything is used and logged.
    A network's `original_names` map the names of tensors in its library's files. Raises ConfigError if a part
    other than the head would lack weights, or also the head if it is not `trained`; if tensors are left over,
    except those of another head; and if values cannot be weights.
    """
    clean: Mapping[str, Tensor] = {WRAPPED.sub("", name): tensor for name, tensor in tensors.items()}
    if len(clean) < len(tensors):
        clean = tensors
    fits = [_fit(network, clean, prefix, trained) for prefix in _prefixes(network, clean)]
    whole = sorted((fit for fit in fits if fit.is_whole), key=lambda fit: fit.rank)
    if not whole:
        nearest = min(fits, key=lambda fit: fit.distance)
        raise ConfigError(f"weights={file}: {_why_not(network, nearest, next(iter(tensors)), trained)}")
    chosen = whole[0]
    if len(whole) > 1 and whole[1].rank == chosen.rank:
        several = ", ".join(fit.prefix for fit in whole if fit.rank == chosen.rank)
        raise ConfigError(
            f"weights={file}: several networks in it fit: {several}; save only one network's state_dict()"
        )
    own = network.state_dict()
    for name, tensor in chosen.given.items():
        if problem := _why_no_weights(tensor, own.get(name)):
            raise ConfigError(f"weights={file}: {_called(network, chosen, name)} {problem}")
    fitting = {n: tensor for n, tensor in chosen.given.items() if n in own and tensor.shape == own[n].shape}
    network.load_state_dict(fitting, strict=False)
    wrappers = "".join(dict.fromkeys(wrapper for name in tensors for wrapper in WRAPPED.findall(name)))
    if chosen.prefix or wrappers:
        once(log.warning, f"weights={file}: {_taken(chosen, wrappers)}")


def _taken(chosen: _Fit, wrappers: str) -> str:
    part, _, prefix = chosen.prefix.rpartition("/")
    facts = [f"its {part} is used"] if part else []
    facts += [f"{prefix}{wrappers} is removed from the names of its tensors"] if prefix or wrappers else []
    unused = dict.fromkeys(name.partition(".")[0] for name in chosen.beside)
    return "; ".join(facts + ([f"not used: {', '.join(unused)}"] if unused else []))


def _prefixes(network: nn.Module, given: Mapping[str, Tensor]) -> set[str]:
    """The prefixes of the network's first tensor in the file.

    Without that tensor: the part of the checkpoint with the most tensors.
    """
    needed = _needed(network) or [""]
    first = next((name for name in needed if not name.startswith(_heads(network))), needed[0])
    words = {first, _original(network, first)}
    ends = {name[: -len(word)] for word in words for name in given if name.endswith(word)}
    found = {prefix for prefix in ends if prefix[-1:] in ("", ".", "/")}
    parts = Counter(name[: name.rfind("/") + 1] for name in given)
    return found or {parts.most_common(1)[0][0]}


def _fit(network: nn.Module, given: Mapping[str, Tensor], prefix: str, trained: bool) -> _Fit:
    own, heads = network.state_dict(), _heads(network)
    names: Mapping[str, str] = getattr(network, "original_names", {})
    part = prefix[: prefix.rfind("/") + 1]
    here = [name for name in given if name.startswith(part) and "/" not in name[len(part) :]]
    inside = {name.removeprefix(prefix): given[name] for name in here if name.startswith(prefix)}
    renamed = {names.get(name, name): tensor for name, tensor in inside.items()}
    lacking = [
        name
        for name in _needed(network)
        if not (name in renamed and renamed[name].shape == own[name].shape)
        and not (trained and name.startswith(heads))
    ]
    left = [
        name for name in inside if (ours := names.get(name, name)) not in own and not ours.startswith(heads)
    ]
    beside = [name.removeprefix(part) for name in here if not name.startswith(prefix)]
    return _Fit(prefix, renamed, lacking, left, beside, own_names=any(name in own for name in inside))


def _needed(network: nn.Module) -> list[str]:
    """The names of a network's tensors without counts of batches, which old checkpoints lack."""
    return [name for name in network.state_dict() if not name.endswith("num_batches_tracked")]


def _heads(network: nn.Module) -> tuple[str, ...]:
    """The prefixes of the head's tensors."""
    names = head_names(network)
    return tuple(network.state_dict()) if "" in names else tuple(f"{name}." for name in names)


def _original(network: nn.Module, name: str) -> str:
    """A tensor's name in the files of the network's library."""
    names: Mapping[str, str] = getattr(network, "original_names", {})
    return next((original for original, own in names.items() if own == name), name)


def _called(network: nn.Module, fit: _Fit, name: str) -> str:
    """A tensor's name in the file."""
    return name if fit.own_names else _original(network, name)


def _why_not(network: nn.Module, fit: _Fit, first: str, trained: bool) -> str:
    """Why the tensors do not fit, and what to do."""
    own, heads = network.state_dict(), _heads(network)
    if not fit.lacking:
        left = fit.left or fit.beside
        shown = ", ".join(left[:3]) + (", …" if len(left) > 3 else "")
        return (
            f"do not fit the network: {len(left)} of {len(fit.given) + len(fit.beside)} tensors are left "
            f"over ({shown}); is it another architecture? otherwise save only the network's state_dict()"
        )
    name = fit.lacking[0]
    called, expected, tensor = _called(network, fit, name), tuple(own[name].shape), fit.given.get(name)
    if tensor is None:
        what = f"it has no {called}; its first is {first}"
    else:
        what = f"{called} has shape {tuple(tensor.shape)} in it and must have {expected}"
    lack = f"{len(fit.lacking)} of {len(own)} tensors lack ({what})"
    if trained or not all(lacking.startswith(heads) for lacking in fit.lacking):
        return f"do not fit the network: {lack}"
    if tensor is not None and tuple(tensor.shape[1:]) == expected[1:]:
        lack = f"its head is for {tensor.shape[0]:,} classes, the data has {expected[0]:,} ({called})"
    return (
        f"{lack}; a network that is not trained needs all weights, also its head's: give weights for these "
        "classes, or train a new head by training.epochs=1 or more (training.trainable=head: only the head)"
    )


def _why_no_weights(tensor: Tensor, own: Tensor | None) -> str | None:
    """Why a tensor cannot be weights, in the place of the network's `own` tensor if it has one."""
    if tensor.is_meta:
        return "is a meta tensor, which has no values"
    if tensor.layout != torch.strided:
        return "is sparse; save it dense"
    if tensor.is_quantized:
        return "is quantized; save it as float32"
    if tensor.numel() == 0:
        return "is empty"
    expected = torch.float32 if own is None else own.dtype
    if _kind(tensor.dtype) != _kind(expected) and not (own is None and _kind(tensor.dtype) == "integer"):
        return f"is {tensor.dtype} and must be {expected}"
    if not tensor.is_floating_point():
        return None
    try:
        values = tensor if tensor.dtype == torch.float64 else tensor.float()
    except RuntimeError:  # such as float4
        return f"is {tensor.dtype}; save it as float32"
    least, most = (bound.item() for bound in values.aminmax())  # NaN, if there is one
    largest = max(-least, most)
    if not math.isfinite(largest):
        return "holds NaN or infinity"
    if largest > LARGEST:
        return f"holds values up to {largest:.0e}, which are too large to compute with"
    return None


def _kind(dtype: torch.dtype) -> str:
    if dtype == torch.bool:
        return "bool"
    return "complex" if dtype.is_complex else "floating" if dtype.is_floating_point else "integer"
