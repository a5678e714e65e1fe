"""What a job asks to be chosen by validation, and that it cannot be where no image is held back for it."""

from collections.abc import Iterator, Mapping

from kdsweep.config import Config
from kdsweep.config.search import MONITORS
from kdsweep.errors import ConfigError
from kdsweep.stage import Stage

NONE_HELD_BACK = "and dataset.val_fraction=0 holds back no image for that"
FIRST = "with dataset.val_fraction=0.1, then train what it chose with 0"


def refuse_choices(config: Config, stages: Mapping[str, Stage]) -> None:
    """Raise ConfigError, a line for each choice by validation; `stages` are the job's by role."""
    problems = [*_of_epochs(config, stages), *_of_jobs(config)]
    if problems:
        raise ConfigError("\n".join(problems))


def _of_epochs(config: Config, stages: Mapping[str, Stage]) -> Iterator[str]:
    """Recipes that choose epochs; by `train/loss` they may."""
    recipes = {_key(config, role, stage): stage.training.effective() for role, stage in stages.items()}
    choosing = {key: used for key, used in recipes.items() if used.get("monitor") in MONITORS}
    for option, what, instead in (
        ("keep", "would choose an epoch", "last"),
        ("patience", "would end training", "null"),
    ):
        keys = [key for key, used in choosing.items() if used[option] not in (None, "last")]
        if keys:
            given = ", ".join(f"{key}.{option}={choosing[key][option]}" for key in keys)
            remedy = " ".join(f"{key}.{option}={instead}" for key in keys)
            yield f"{given}: {what} by validation, {NONE_HELD_BACK}; set {remedy}"


def _key(config: Config, role: str, stage: Stage) -> str:
    """The section of the config that has a stage's recipe."""
    if role == "teacher":
        return "teacher.training"
    if role.startswith("assistant"):
        owner = "chain" if config.chain.assistants else "student"
        names = [assistant.name for assistant in config.assistants]
        return f"{owner}.assistants.{names.index(stage.name)}.training"
    return "training"


def _of_jobs(config: Config) -> Iterator[str]:
    """What the sweep would do with its best job."""
    wanted = [config.objective] if isinstance(config.objective, str) else config.objective
    by_validation = [each for each in wanted if each in MONITORS]
    if config.search and by_validation:
        yield (
            f"objective={by_validation[0]}: the search chooses trials by it, {NONE_HELD_BACK}; search {FIRST}"
        )
    if config.tune:
        yield (f"tune={config.tune}: chooses trials by validation, {NONE_HELD_BACK}; tune {FIRST}")
    elif config.confirm:
        yield (
            f"confirm={config.confirm}: chooses a recipe by validation, {NONE_HELD_BACK}; leave it out, and "
            "give every recipe several seeds, as seed=range(3) does"
        )
    if config.register_as:
        yield (
            f"register={config.register_as}: chooses the version by validation, {NONE_HELD_BACK}; leave it "
            "out, and register a job in MLflow"
        )
