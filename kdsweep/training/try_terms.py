"""Try the terms of a loss on two images before anything is trained."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdsweep.config import is_file
from kdsweep.config.code import import_component
from kdsweep.errors import ConfigError, Trials
from kdsweep.methods import EMBEDDING, Side, all_taps
from kdsweep.methods.average import as_one
from kdsweep.methods.loss import Loss
from kdsweep.methods.term import Batch, Outputs, Setting, Term, reason
from kdsweep.networks import has_logits
from kdsweep.networks.build import build
from kdsweep.networks.outputs import Outputs as File
from kdsweep.networks.taps import Tapped, evaluating
from kdsweep.stage import Objective, Stage

_trials = Trials()
Initial = Mapping[str, Path]  # files of weights, by digest


def check_terms(
    stage: Stage,
    num_classes: int,
    shape: tuple[int, int, int],
    initial: Initial,
    labeled: float | None = None,
) -> None:
    """Raise ConfigError unless the stage's terms take its networks' outputs for images of `shape`.

    `initial` are the files of teachers that are only files. A batch has `labeled` images with labels on
    average; None: all have. Each loss is tried once per process.
    """
    networks = [stage.model, *(parent.model for parent in stage.parents)]
    files = [parent.initial for parent in stage.parents if is_file(parent.model)]
    batches = (stage.augment.mixes, labeled, stage.training.batch_size)
    tried = repr((stage.objective, networks, files, num_classes, shape, batches))
    _trials.once(tried, lambda: _try(stage, num_classes, shape, initial, labeled))


@torch.random.fork_rng(devices=[])
def tap_pairs(
    stage: Stage, num_classes: int, shape: tuple[int, int, int], initial: Initial
) -> dict[str, list[str]]:
    """What each term with taps compares of the student and its first teacher, for terms that have a teacher:
    "stage2 32×4×4 ↔ layer2 64×8×8"."""
    if not all_taps(stage.objective, "student"):
        return {}
    batch, places = _example(stage, num_classes, shape, initial)
    found = {}
    for name, term in _loss(stage, batch, num_classes).terms.items():
        if term.taps and "teacher" in term.takes:
            found[name] = [
                " ↔ ".join(", ".join(_described(value, places) for value in side) for side in pair)
                for pair in term.pairs(batch)
            ]
    return found


@torch.random.fork_rng(devices=[])
def _try(
    stage: Stage, num_classes: int, shape: tuple[int, int, int], initial: Initial, labeled: float | None
) -> None:
    batch, _ = _example(stage, num_classes, shape, initial)
    loss, mixes = _loss(stage, batch, num_classes), stage.augment.mixes
    if mixes:
        batch = replace(batch, labels=F.one_hot(batch.labels, num_classes).float())
    for name, term in loss.terms.items():
        if mixes and not term.soft_labels:
            _refuse_mixed(name, term, mixes)
        if stage.training.batch_size == 1 and term.compares:
            raise ConfigError(
                f"method.terms.{name}: compares the images of a batch, so training.batch_size=1 is too small"
            )
        if labeled is not None and labeled < 2 and term.compares and term.needs_labels:
            raise ConfigError(
                f"method.terms.{name}: compares the labelled images of a batch, and a batch of "
                f"{stage.training.batch_size} has {labeled:.2g} of them; take a smaller "
                "dataset.unlabeled_share or a larger training.batch_size"
            )
        try:
            value: object = term(batch, epoch=1)
        except Exception as error:  # terms run any code, the user's too
            raise ConfigError(f"method.terms.{name}: {reason(error)}") from error
        if not isinstance(value, Tensor) or value.dim():
            given = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ConfigError(f"method.terms.{name}: gives {given}, must be a tensor of one number")


def _refuse_mixed(name: str, term: Term, mixes: str) -> None:
    """Raise ConfigError if the term looks at one label or one place in the training split per image."""
    needed = [what for what in ("labels", "indices") if what in term.takes]
    if needed:
        what = {"labels": "needs one label per image", "indices": "remembers single images"}[needed[0]]
        raise ConfigError(
            f"method.terms.{name}: {what}, and dataset.augment.{mixes} mixes them; set "
            f"dataset.augment.{mixes}=0, or take a method that looks at the teacher alone beside the labels' "
            "cross-entropy, such as kd"
        )


Places = dict[int, str]  # the modules that gave values, by the values' identities


def _example(
    stage: Stage, num_classes: int, shape: tuple[int, int, int], initial: Initial
) -> tuple[Batch, Places]:
    """What student and teachers, untrained, give for two images."""
    torch.manual_seed(0)
    places: Places = {}
    images = torch.rand(2, *shape).contiguous(memory_format=torch.channels_last)
    if _looks_at_networks(stage.objective):

        def outputs(of: Stage, side: Side) -> Outputs:
            network = build(of.model, num_classes, shape)
            if is_file(of.model):
                network.read(initial[of.initial or ""])  # type: ignore[operator]
            if isinstance(network, File):
                return _said(network, of, stage.objective, num_classes)
            return _outputs(network, of.name, stage.objective, side, images, places)

        student, teachers = outputs(stage, "student"), [outputs(each, "teacher") for each in stage.parents]
    else:
        student, *teachers = (Outputs(torch.randn(2, num_classes)) for _ in (stage, *stage.parents))
    together = as_one(teachers, stage.average)
    return Batch(student, together, torch.arange(2) % num_classes, torch.arange(2)), places


def _loss(stage: Stage, batch: Batch, num_classes: int) -> Loss:
    size, teachers = stage.training.batch_size, len(batch.teachers)
    weights = stage.average.weights if teachers > 1 else ()
    alone = (lambda: batch, lambda: iter([batch]))
    setting = Setting(teachers, batch.labels, num_classes, size, *alone, weights)
    return Loss(stage.objective, setting, stage.seed)


def _described(value: Tensor, places: Places) -> str:
    return f"{places.get(id(value), 'logits')} {'×'.join(map(str, value.shape[1:]))}"


def _outputs(
    network: nn.Module, name: str, objective: Objective, side: Side, images: Tensor, places: Places
) -> Outputs:
    taps = all_taps(objective, side)
    with evaluating(network):
        try:
            tapped = Tapped(network, taps, images)
            outputs = tapped(images)
        except ConfigError as error:
            term = next(
                term for term, each in objective.items() if _lacks(network, {term: each}, side, images)
            )
            role = "the student" if side == "student" else "its teacher"
            raise ConfigError(f"method.terms.{term}: {role} {name} {error}") from error
    for tap, values in outputs.taps.items():
        names = [tap] if tap == EMBEDDING else [place.module for place in tapped.places[tap]]
        places |= dict(zip(map(id, values), names, strict=True))
    return outputs


def _said(file: File, teacher: Stage, objective: Objective, num_classes: int) -> Outputs:
    """What a file of outputs gives for two images; it has no taps but its own embeddings."""
    known = () if has_logits(teacher.model) else (EMBEDDING,)
    for name, term in objective.items():
        if lacking := [tap for tap in all_taps({name: term}, "teacher") if tap not in known]:
            raise ConfigError(
                f"method.terms.{name}: its teacher {teacher.name} has no tap {lacking[0]}, being a file of "
                f"{' and '.join(known) or 'logits'} alone"
            )
    if not known:
        return Outputs(torch.randn(2, num_classes))
    values = file.values[torch.arange(2) % len(file.values)]
    return Outputs(values, {EMBEDDING: (values,)})


def _lacks(network: nn.Module, objective: Objective, side: Side, images: Tensor) -> bool:
    """Whether the network cannot give what the terms look at."""
    taps = all_taps(objective, side)
    try:
        Tapped(network, taps, images)(images)
    except ConfigError:
        return True
    return False


def _looks_at_networks(objective: Objective) -> bool:
    return any(
        term.get("taps") or isinstance(import_component(term["_target_"]), type)
        for term in objective.values()
    )
