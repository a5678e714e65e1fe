"""Try the terms of a loss on two images before anything is trained."""

import torch
from torch import Tensor, nn

from kdsweep.config.code import import_component
from kdsweep.errors import ConfigError, Trials
from kdsweep.methods import EMBEDDING, Side, all_taps
from kdsweep.methods.loss import Loss
from kdsweep.methods.term import Batch, Outputs, Setting, reason
from kdsweep.networks.build import build
from kdsweep.networks.taps import Tapped, evaluating
from kdsweep.stage import Objective, Stage

_trials = Trials()


def check_terms(
    stage: Stage, num_classes: int, shape: tuple[int, int, int], labeled: float | None = None
) -> None:
    """Raise ConfigError unless the stage's terms take its networks' outputs for images of `shape`.

    A batch has `labeled` images with labels on average; None: all have. Each loss is tried once per process.
    """
    networks = [stage.model, *(parent.model for parent in stage.parents)]
    tried = repr((stage.objective, networks, num_classes, shape, labeled, stage.training.batch_size))
    _trials.once(tried, lambda: _try(stage, num_classes, shape, labeled))


@torch.random.fork_rng(devices=[])
def tap_pairs(stage: Stage, num_classes: int, shape: tuple[int, int, int]) -> dict[str, list[str]]:
    """What each term with taps compares of the student and its first teacher, for terms that have a teacher:
    "stage2 32×4×4 ↔ layer2 64×8×8"."""
    if not all_taps(stage.objective, "student"):
        return {}
    batch, places = _example(stage, num_classes, shape)
    found = {}
    for name, term in _loss(stage, batch, num_classes).terms.items():
        if term.taps and "teacher" in term.takes:
            found[name] = [
                " ↔ ".join(", ".join(_described(value, places) for value in side) for side in pair)
                for pair in term.pairs(batch)
            ]
    return found


@torch.random.fork_rng(devices=[])
def _try(stage: Stage, num_classes: int, shape: tuple[int, int, int], labeled: float | None) -> None:
    batch, _ = _example(stage, num_classes, shape)
    for name, term in _loss(stage, batch, num_classes).terms.items():
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


Places = dict[int, str]  # the modules that gave values, by the values' identities


def _example(stage: Stage, num_classes: int, shape: tuple[int, int, int]) -> tuple[Batch, Places]:
    """What student and teachers, untrained, give for two images."""
    torch.manual_seed(0)
    places: Places = {}
    images = torch.rand(2, *shape).contiguous(memory_format=torch.channels_last)
    if _looks_at_networks(stage.objective):
        student = _outputs(stage, "student", stage.objective, num_classes, images, places)
        teachers = [
            _outputs(parent, "teacher", stage.objective, num_classes, images, places)
            for parent in stage.parents
        ]
    else:
        student, *teachers = (Outputs(torch.randn(2, num_classes)) for _ in (stage, *stage.parents))
    return Batch(student, teachers, torch.arange(2) % num_classes, torch.arange(2)), places


def _loss(stage: Stage, batch: Batch, num_classes: int) -> Loss:
    size, teachers = stage.training.batch_size, len(batch.teachers)
    setting = Setting(teachers, batch.labels, num_classes, size, lambda: batch, lambda: iter([batch]))
    return Loss(stage.objective, setting, stage.seed)


def _described(value: Tensor, places: Places) -> str:
    return f"{places.get(id(value), 'logits')} {'×'.join(map(str, value.shape[1:]))}"


def _outputs(
    stage: Stage, side: Side, objective: Objective, num_classes: int, images: Tensor, places: Places
) -> Outputs:
    channels, height, width = images.shape[1:]
    network = build(stage.model, num_classes, (channels, height, width))
    with evaluating(network):
        try:
            tapped = Tapped(network, all_taps(objective, side), images)
            outputs = tapped(images)
        except ConfigError as error:
            name = next(
                name for name, term in objective.items() if _lacks(network, {name: term}, side, images)
            )
            role = "the student" if side == "student" else "its teacher"
            raise ConfigError(f"method.terms.{name}: {role} {stage.name} {error}") from error
    for tap, values in outputs.taps.items():
        names = [tap] if tap == EMBEDDING else [place.module for place in tapped.places[tap]]
        places |= dict(zip(map(id, values), names, strict=True))
    return outputs


def _lacks(network: nn.Module, objective: Objective, side: Side, images: Tensor) -> bool:
    """Whether the network cannot give what the terms look at."""
    try:
        Tapped(network, all_taps(objective, side), images)(images)
    except ConfigError:
        return True
    return False


def _looks_at_networks(objective: Objective) -> bool:
    return any(
        term.get("taps") or isinstance(import_component(term["_target_"]), type)
        for term in objective.values()
    )
