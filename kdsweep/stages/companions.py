"""The stages of a sweep that may train in one pass, because they differ only in seeds and numbers.

The sweep leaves them in its folder. The job that comes first to one of them trains the others too; the jobs
that need these then find them in the store.
"""

import json
import logging
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import Any, Self

from kdsweep.config import Training
from kdsweep.stage import Average, Stage, digest
from kdsweep.stages.graph import Links, nodes
from kdsweep.system.progress import once

log = logging.getLogger(__name__)

FOLDER, STAGES = "together", "stages.json"  # in a sweep's folder
MOST = 32  # stages in a pass: more gain little


def groups(jobs: Iterable[Links], at_once: int, most: int = MOST) -> list[list[Stage]]:
    """The stages of jobs, `at_once` of which run at a time, that may train together: two or more each.

    Those of one kind are dealt out in turn, so that every running job has some to train. In groups of at most
    `most` those of one seed are together, since they share their images.
    """
    kinds: dict[str, list[Stage]] = {}
    known: dict[str, str] = {}
    for node in nodes(jobs).values():
        kinds.setdefault(_kind_of(node.stage, known), []).append(node.stage)
    found = []
    for stages in kinds.values():
        for hand in range(at_once):
            dealt = sorted(stages[hand::at_once], key=lambda stage: stage.seed)
            parts = ceil(len(dealt) / most)
            places = [len(dealt) * part // parts for part in range(parts + 1)] if parts else []
            found += [dealt[begin:end] for begin, end in pairwise(places)]
    return [group for group in found if len(group) > 1]


def _kind_of(stage: Stage, known: dict[str, str]) -> str:
    """A digest of all in which stages of one pass are equal: the description without the seed, the rates and
    weight decay, and the numbers of terms, and with the kinds of the parents. `known` has those of stages by
    key, since in a dense chain a stage teaches all that come after it."""
    if stage.key not in known:
        known[stage.key] = digest(_shared(stage, known))
    return known[stage.key]


def _shared(stage: Stage, known: dict[str, str]) -> dict[str, Any]:
    described = stage.describe()
    training = dict(described["training"])
    for part in ("fine_tuning", "optimizer"):
        if part in training:
            training[part] = _without(training[part], "learning_rate", "weight_decay")
    return {
        **_without(described, "seed"),
        "training": _without(training, "learning_rate"),
        "objective": {name: _shape(term) for name, term in stage.objective.items()},
        "parents": [_kind_of(parent, known) for parent in stage.parents],
    }


def _without(described: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in described.items() if key not in keys}


def _shape(term: Mapping[str, Any]) -> dict[str, Any]:
    """A term without the values of its numbers."""
    return {
        key: "a number" if isinstance(value, int | float) and not isinstance(value, bool) else value
        for key, value in term.items()
    }


@dataclass(frozen=True)
class Companions:
    """The groups that a sweep has left in `folder`; of a job alone, without a folder, there are none."""

    folder: Path | None = None

    @classmethod
    def of_job(cls, folder: Path) -> Self:
        """Those of the sweep in whose folder, or below, a job's folder is."""
        found = (above / FOLDER for above in (folder, *folder.absolute().parents))
        return cls(next((each for each in found if (each / STAGES).is_file()), None))

    @classmethod
    def leave(cls, folder: Path, groups: Sequence[Sequence[Stage]]) -> None:
        """Write the groups of a sweep into its folder, if there are any."""
        if not groups:
            return
        stages: dict[str, Any] = {}
        for group in groups:
            for stage in group:
                _add(stage, stages)
        keys = [[stage.key for stage in group] for group in groups]
        (folder / FOLDER).mkdir(exist_ok=True)
        new = folder / FOLDER / "stages.new"
        new.write_text(json.dumps({"groups": keys, "stages": stages}))
        new.replace(folder / FOLDER / STAGES)

    @staticmethod
    def forget(folder: Path) -> None:
        """Remove what `leave` has written; the sweep is at an end."""
        shutil.rmtree(folder / FOLDER, ignore_errors=True)

    def beside(self, stage: Stage) -> list[Stage]:
        """The other stages of the group of a stage; none if what the sweep has left cannot be used."""
        try:
            return [self._stage(key) for key in self.group(stage) if key != stage.key]
        except Exception as error:  # the sweep has ended, or another version has written it
            reason = f"{type(error).__name__}: {error}"
            once(log.warning, f"{self.folder} cannot be used ({reason}); stages train one by one")
            return []

    def group(self, stage: Stage) -> tuple[str, ...]:
        """The keys of the group of a stage."""
        return tuple(self._groups.get(stage.key, ()))

    def trained(self, stage: Stage) -> None:
        """Note that a job has trained a stage for others, the first of which will `take` it."""
        assert self.folder
        with suppress(FileNotFoundError):  # the sweep has ended without this job
            (self.folder / stage.key).touch()

    def take(self, stage: Stage) -> bool:
        """Whether another job has trained the stage for the first that asks."""
        if not self.folder:
            return False
        try:
            (self.folder / stage.key).unlink()
        except FileNotFoundError:
            return False
        return True

    @cached_property
    def _left(self) -> dict[str, Any]:
        left: dict[str, Any] = json.loads((self.folder / STAGES).read_text()) if self.folder else {}
        return left

    @cached_property
    def _groups(self) -> dict[str, list[str]]:
        return {key: group for group in self._left.get("groups", []) for key in group}

    @cached_property
    def _stages(self) -> dict[str, Stage]:
        return {}

    def _stage(self, key: str) -> Stage:
        if key not in self._stages:
            self._stages[key] = self._read(key)
        return self._stages[key]

    def _read(self, key: str) -> Stage:
        described = self._left["stages"][key]
        parents = tuple(map(self._stage, described["parents"]))
        training = Training.model_validate(described["training"])
        average = Average(described["average"]["of"], tuple(described["average"]["weights"]))
        stage = Stage(**{**described, "parents": parents, "training": training, "average": average})
        if stage.key != key:
            raise ValueError(f"{key} is {stage.key} here")
        return stage


def _add(stage: Stage, stages: dict[str, Any]) -> None:
    """Add a stage, and all that teach it, by their keys."""
    if stage.key in stages:
        return
    for parent in stage.parents:
        _add(parent, stages)
    stages[stage.key] = {
        **{name: getattr(stage, name) for name in PLAIN},
        "training": stage.training.model_dump(mode="json"),
        "average": asdict(stage.average),
        "parents": [parent.key for parent in stage.parents],
    }


PLAIN = ("data", "model", "objective", "seed", "source", "initial", "defaults", "name", "images")
