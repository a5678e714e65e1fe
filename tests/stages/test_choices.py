"""What may not choose where no image is held back; the commands' own tests have the lines of each refusal."""

import pytest
from helpers import composed
from planning import planned

from kdsweep.config.parse import parse
from kdsweep.errors import ConfigError
from kdsweep.stages.choices import refuse_choices

NONE = "dataset.val_fraction=0"


def choices(*overrides: str) -> list[str]:
    try:
        refuse_choices(parse(composed(NONE, *overrides)), planned(NONE, *overrides).links())
    except ConfigError as error:
        return str(error).splitlines()
    return []


def test_the_papers_setting_is_one_key_more():
    assert choices("experiment=zoo_cifar100", "method=crd") == []
    config = parse(composed("experiment=zoo_cifar100", NONE))
    assert (config.training.keep, config.teacher.training.keep) == ("last", "last")


@pytest.mark.parametrize("monitor", ["val/accuracy", "val/cross_entropy"])
def test_every_mistake_has_its_line(monitor):
    lines = choices(
        "training.keep=best", "training.patience=2", f"training.monitor={monitor}", "register=mine",
        "confirm=2", "method=scratch",
    )  # fmt: skip
    assert [line.partition(":")[0] for line in lines] == [
        "training.keep=best", "training.patience=2", "confirm=2", "register=mine"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "overrides",
    [
        ["objective=[val/cross_entropy,cost/flops]"],
        ["training.keep=best", "training.monitor=train/loss", "training.patience=2"],
        ["training.keep=best", "training.patience=1", "training.epochs=1", "teacher.training.epochs=1"],
        ["training.patience=59", "teacher.training.patience=59"],
    ],
    ids=" ".join,
)
def test_what_chooses_nothing_is_no_mistake(overrides):
    assert choices(*overrides) == []
