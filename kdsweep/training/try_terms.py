"""Try the terms of a loss on two images before anything is trained."""

import torch
from torch import Tensor, nn

from kdsweep.config.code import import_component
from kdsweep.errors import ConfigError, Trials
from kdsweep.methods import all_taps
from kdsweep.methods.loss import Loss
from kdsweep.methods.term import Batch, Outputs, Setting, reason
from kdsweep.networks.build import build
from kdsweep.networks.taps import Tapped, evaluating
from kdsweep.stage import Objective, Stage

_trials = Trials()


def check_terms(stage: Stage, num_classes: int, shape: tuple[int, int, int]) -> None:
    """Raise ConfigError unless the stage's terms take its networks' outputs for images of `shape`.

    Each loss is tried once per process.
    """
    networks = [stage.model, *(parent.model for parent in stage.parents)]
    tried = repr((stage.objective, networks, num_classes, shape))
    _trials.once(tried, lambda: _try(stage, num_classes, shape))


@torch.random.fork_rng(devices=[])
def _try(stage: Stage, num_classes: int, shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    images = torch.rand(2, *shape).contiguous(memory_format=torch.channels_last)
    if _looks_at_networks(stage.objective):
        student = _outputs(stage, all_taps(stage.objective, "student"), "the student", num_classes, images)
        taps = all_taps(stage.objective, "teacher")
        teachers = [_outputs(parent, taps, "its teacher", num_classes, images) for parent in stage.parents]
    else:
        student, *teachers = (Outputs(torch.randn(2, num_classes)) for _ in (stage, *stage.parents))
    labels = torch.arange(2) % num_classes
    batch = Batch(student, teachers, labels, torch.arange(2))
    size = stage.training.batch_size
    setting = Setting(len(teachers), labels, num_classes, size, lambda: batch, lambda: iter([batch]))
    for name, term in Loss(stage.objective, setting, stage.seed).terms.items():
        if size == 1 and (term.of_whole_batch or _normalizes(term)):
            raise ConfigError(
                f"method.terms.{name}: compares the images of a batch, so training.batch_size=1 is too small"
            )
        try:
            value: object = term(batch, epoch=1)
        except Exception as error:  # terms run any code, the user's too
            raise ConfigError(f"method.terms.{name}: {reason(error)}") from error
        if not isinstance(value, Tensor) or value.dim():
            given = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ConfigError(f"method.terms.{name}: gives {given}, must be a tensor of one number")


def _normalizes(term: nn.Module) -> bool:
    return any(isinstance(part, nn.modules.batchnorm._NormBase) for part in term.modules())


def _outputs(stage: Stage, taps: list[str], role: str, num_classes: int, images: Tensor) -> Outputs:
    channels, height, width = images.shape[1:]
    network = build(stage.model, num_classes, (channels, height, width))
    try:
        with evaluating(network):
            return Tapped(network, taps, images)(images)
    except ConfigError as error:
        raise ConfigError(f"method.terms: of {role} {stage.name}, {error}") from error


def _looks_at_networks(objective: Objective) -> bool:
    return any(
        term.get("taps") or isinstance(import_component(term["_target_"]), type)
        for term in objective.values()
    )
