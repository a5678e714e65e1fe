"""Try a recipe's optimizer and schedule on a few parameters before anything is trained."""

import inspect
import warnings
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import nn

from kdsweep.config import EPOCHS, Phase, Training
from kdsweep.errors import ConfigError, Trials
from kdsweep.system.foreign_errors import one_line
from kdsweep.system.hydra_errors import unknown_key
from kdsweep.training.components import Component, located, options_of, wrong
from kdsweep.training.optimizers import make_optimizer, make_schedule, optimizer_tensors

SHAPES = ((2, 2, 2, 2), (2, 2), (2,))  # of the parameters that a trial steps
MOST_STEPS = 1000  # of a schedule's trial

_trials = Trials()


def recipe_problems(recipes: Mapping[str, Training]) -> dict[str, str]:
    """The mistakes in the recipes of a job's roles, a line each; one that the student shares counts once."""
    sections: dict[str, str] = {}  # by mistake
    own = ("teacher", "assistant")  # roles whose recipes may differ from the student's
    for role in sorted(recipes, key=lambda role: role.startswith(own)):
        section = f"{role}.training." if role.startswith(own) else "training."
        try:
            check_recipe(recipes[role])
        except ConfigError as error:
            for line in str(error).splitlines():
                sections.setdefault(line, section)
    return {line: f"{section}{line}" for line, section in sections.items()}


def check_recipe(recipe: Training) -> None:
    """Raise ConfigError unless optimizer and schedule take their options and can be stepped.

    Each recipe is tried once per process.
    """
    phases = [phase for phase in recipe.phases if phase.epochs]
    tried = repr((recipe.optimizer, recipe.schedule, phases))

    def attempt() -> None:
        _refuse_options(recipe)
        for phase in phases:
            _try(recipe, phase)

    _trials.once(tried, attempt)


def _refuse_options(recipe: Training) -> None:
    lines = [
        *_wrong_options("optimizer", recipe.optimizer, ("params", "lr")),
        *_wrong_options("schedule", recipe.schedule, ("optimizer", "last_epoch")),
    ]
    if lines:
        raise ConfigError("\n".join(lines))


def _wrong_options(section: str, component: Component, given: Sequence[str]) -> Iterator[str]:
    """A line for each option that the signature lacks, and for each that it requires and the recipe lacks."""
    try:
        parameters = inspect.signature(located(section, component)).parameters.values()
    except (TypeError, ValueError):  # it has no signature or cannot be called: the trial reports that
        return
    options, several = (
        options_of(component),
        (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL),
    )
    taken = {each.name: each for each in parameters if each.name not in given and each.kind not in several}
    if not any(each.kind == inspect.Parameter.VAR_KEYWORD for each in parameters):
        for name in sorted(options.keys() - taken):
            yield unknown_key(f"{section}.{name}", taken)
    for name, each in taken.items():
        value = options.get(name)
        if each.default is each.empty and name not in options:
            yield f"{section}.{name} is missing: {component['_target_']} needs it"
        elif type(each.default) in (int, float) and isinstance(value, str) and value != EPOCHS:
            yield f"{section}.{name}={value}: must be a number"


def _try(recipe: Training, phase: Phase) -> None:
    """Try a step of a phase, and the steps of its schedule up to MOST_STEPS."""
    parameters = [nn.Parameter(torch.ones(shape)) for shape in SHAPES]
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the training itself will warn
        optimizer = make_optimizer([{"params": parameters}], recipe, phase.learning_rate)
        schedule = make_schedule(optimizer, recipe, phase.epochs, 0)
        try:
            optimizer.step()
            optimizer_tensors(optimizer)
        except Exception as error:  # it may be the user's own code
            raise wrong("optimizer", recipe.optimizer, one_line(error)) from error
        try:
            for _ in range(min(phase.epochs, MOST_STEPS)):
                schedule.step()
        except Exception as error:  # it may be the user's own code
            raise wrong("schedule", recipe.schedule, one_line(error)) from error
