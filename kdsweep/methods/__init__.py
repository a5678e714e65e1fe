"""The losses of a distillation step, a file each: terms, whose weighted sum a method is.

A term is a function, or an `nn.Module` if it learns or remembers, that gives its unweighted loss, a scalar.
A config names it by import path. It takes by name what it looks at, and what it takes says what it needs:

- `student`, `teacher`: float32 logits [B, C]; with `taps`, what the networks give there, each [B, D] or
  [B, C, H, W]: a tensor for one tap, a tuple for several; of `stages` as many of both networks, unless the
  term is `unpaired`. Of several teachers each is asked alone, and the losses are averaged. A term without
  `teacher` needs none.
- `labels`: int64 [B]. Of images that `dataset.augment` mixes, they are probabilities, float32 [B, C], which
  only terms marked by `soft_labels` take; others with `labels` or `indices` are refused then.
- `indices`: int64 [B], the images' places in the training split. A term that takes labels or indices is given
  the labelled images of a batch only, if some have no labels. `epoch`: from 1.
- `teacher_head`: the teacher's head, a function from its embeddings [B, D] to logits [B, C], which gradients
  pass; `embedding` must be one of the teacher's taps.
- `generator`: a torch.Generator on the CPU, seeded for this term and epoch.

All else that a function takes, by keyword, are options, which the config gives. A module's options are those
of its `__init__`, which may also take:

- `student`, `teacher`: shapes in place of tensors; the first size is a batch's. `num_classes`, `batch_size`.
- `train_labels`: int64 [N], of all training images.
- `teacher_outputs`: an iterator over batches of the training images, without augmentation: of each, what the
  teacher gives at the taps, and the labels.

A module may have `figures`, a mapping from names to scalars, which are reported for each epoch.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, TypeVar

from kdsweep.config.code import SOURCE

WEIGHT = "weight"
# of every term; its options are the rest
OF_EVERY_TERM = ("_target_", SOURCE, WEIGHT, "warmup", "decay", "taps", "standardize")
EMBEDDING = "embedding"  # what the head takes
MAP = "map"  # the last one before pooling
STAGES = "stages"  # all of a network's
LOGITS = "logits"  # beside taps, for terms that look at both
PRE = ".pre"  # what the last activation of a stage takes
Taps = str | Sequence[str]
Side = Literal["student", "teacher"]
Component = TypeVar("Component")


def needs_labels(taken: Collection[str]) -> bool:
    """Whether a term that takes this by name is only for images with labels."""
    return "labels" in taken or "indices" in taken


def of_whole_batch(term: Component) -> Component:
    """Mark a term whose loss for an image depends on the other images of its batch."""
    term.of_whole_batch = True  # type: ignore[attr-defined]
    return term


def soft_labels(term: Component) -> Component:
    """Mark a term that takes `labels` of mixed images too: probabilities, float32 [B, C]."""
    term.soft_labels = True  # type: ignore[attr-defined]
    return term


def unpaired(term: Component) -> Component:
    """Mark a term that takes all stages that each network has, not as many of both."""
    term.unpaired = True  # type: ignore[attr-defined]
    return term


def taps_of(taps: Any, side: Side) -> Taps | None:
    """A term's taps of the student or of a teacher: a name, a list of names, or None."""
    found: Taps | None = taps[side] if isinstance(taps, Mapping) else taps
    return found


def all_taps(objective: Mapping[str, Mapping[str, Any]], side: Side) -> list[str]:
    """The names of the taps at which the terms of an objective look, each once."""
    wanted = [taps_of(term.get("taps"), side) for term in objective.values()]
    names = [name for taps in wanted if taps for name in ([taps] if isinstance(taps, str) else taps)]
    return [name for name in dict.fromkeys(names) if name != LOGITS]
