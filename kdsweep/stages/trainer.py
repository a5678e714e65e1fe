"""Trains a stage into its entry of the store, and its companions in the same pass if that is faster."""

import json
import logging
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdsweep import __version__
from kdsweep.config import Hardware
from kdsweep.errors import TrainingError
from kdsweep.networks import TEACHER, has_logits
from kdsweep.networks.weights import WEIGHTS
from kdsweep.stage import Stage
from kdsweep.stages.answers import Answers, is_outputs, looked_up
from kdsweep.stages.classes import metadata
from kdsweep.stages.companions import Companions
from kdsweep.store.origin import Origin, Remote
from kdsweep.store.store import Busy

if TYPE_CHECKING:
    import torch

    from kdsweep.training.member import Fitted, Member, Task
    from kdsweep.training.teaching import Teaching

log = logging.getLogger(__name__)

LIBRARIES = ("timm", "torchvision")  # of networks, and of the weights that their names stand for

OnEpoch = Callable[[int, dict[str, float], float], None]
_sizes: dict[tuple[str, ...], int] = {}  # of the passes that are worthwhile, by group


class Trainer:
    """`initial` and `remote` are as for a Maker."""

    def __init__(
        self,
        answers: Answers,
        hardware: Hardware,
        initial: Mapping[str, Path],
        companions: Companions,
        remote: Remote | None,
    ) -> None:
        self.answers, self.hardware, self.initial = answers, hardware, initial
        self.companions, self.remote = companions, remote
        self.store, self.dataset = answers.store, answers.dataset
        self.roles: dict[str, str] = {}  # of the job's stages, by key

    def obtain(self, role: str, stage: Stage, on_epoch: OnEpoch) -> tuple[Path, bool]:
        """The entry of a stage, whose parents are trained, and whether it was found.

        Raises Busy if another job is training it.
        """
        return self.store.obtain(
            stage.key,
            lambda folder: self._train(role, stage, folder, on_epoch),
            remote=self.remote,
            origin=_origin(role, stage),
            wait=False,
        )

    def _train(self, role: str, stage: Stage, folder: Path, on_epoch: OnEpoch) -> None:
        """Train the stage, and those beside it that are faster trained in one pass with it."""
        try:
            if is_outputs(stage):
                return self._write(stage, self._taken(stage), folder)
            self._write(stage, self._fitted(role, stage, on_epoch), folder)
        except TrainingError as error:
            raise TrainingError(f"{role}: {error}") from error

    def _fitted(self, role: str, stage: Stage, on_epoch: OnEpoch) -> "Fitted":
        beside = self._worthwhile(stage)
        try:
            own = self._in_one_pass(role, stage, beside, on_epoch)
        except (TrainingError, RuntimeError, MemoryError) as error:  # no room, or another's teacher
            if not beside:
                raise
            log.info("%d stages cannot train in one pass: %s", len(beside) + 1, error)
            _sizes[self.companions.group(stage)] = 1
            own = self._in_one_pass(role, stage, [], on_epoch)
        return own.fitted()

    def _in_one_pass(self, role: str, stage: Stage, beside: Sequence[Stage], on_epoch: OnEpoch) -> "Member":
        """Train a stage and those of `beside` that no other job is training, which become entries; all are
        none if anything but a loss fails."""
        from kdsweep.training.fit import fit_together

        with ExitStack() as entered:
            others = self._entered(role, stage, beside, entered)
            tasks = self._tasks([stage, *(other for other, *_ in others)], on_epoch)
            own, *members = fit_together(tasks, self.dataset, self.answers.device())
            for member, (other, held, folder) in zip(members, others, strict=True):
                with suppress(TrainingError), held:  # its own job will find out and fail
                    self._write(other, member.fitted(), folder)
                    self.companions.trained(other)
        return own

    def _entered(
        self, role: str, stage: Stage, beside: Sequence[Stage], entered: ExitStack
    ) -> list[tuple[Stage, ExitStack, Path]]:
        """The stages to train in one pass with `stage`, each with what holds its entry, and its folder."""
        found = []
        for other in beside:
            held = entered.enter_context(ExitStack())
            with suppress(Busy, TrainingError):  # another job's
                self._prepare(other, stage)
                entry = self.store.entry(other.key, origin=_origin(role, other), wait=False)
                folder, is_there = held.enter_context(entry)
                if not is_there:
                    found.append((other, held, folder))
        return found

    def _worthwhile(self, stage: Stage) -> list[Stage]:
        """The stages of its group that the store lacks, if one pass is faster than one after another."""
        from kdsweep.training.trial import faster_together

        wanted = self.hardware.together
        others = [each for each in self.companions.beside(stage) if not self.store.find(each.key)]
        if not others or wanted == "off":
            return []
        group = self.companions.group(stage)
        if group not in _sizes:
            teaching = self.answers.teaching(stage)  # that of the others may not be trained yet
            tasks = [self._task(each, teaching) for each in (stage, *others)]
            timed = wanted == "auto"
            _sizes[group] = faster_together(tasks, self.dataset, self.answers.device(), timed)
        return others[: _sizes[group] - 1]

    def _prepare(self, other: Stage, like: Stage) -> None:
        """Train what teaches another job's stage, in the roles of what teaches the like of it here."""
        for theirs, ours in zip(other.parents, like.parents, strict=True):
            if not self.store.find(theirs.key):
                self._prepare(theirs, ours)
                _, found = self.obtain(self.roles.get(ours.key, TEACHER), theirs, lambda *event: None)
                if not found:  # else another job has trained it meanwhile
                    self.companions.trained(theirs)

    def _tasks(self, stages: Sequence[Stage], on_epoch: OnEpoch) -> "list[Task]":
        """The first is this job's; those with one seed and the same teachers are taught as one."""
        teachings: dict[tuple[Any, ...], Teaching] = {}
        tasks = []
        for stage in stages:
            taught = (stage.seed, *(parent.key for parent in stage.parents))
            if taught not in teachings:
                teachings[taught] = self.answers.teaching(stage)
            tasks.append(self._task(stage, teachings[taught]))
        return [replace(tasks[0], on_epoch=on_epoch), *tasks[1:]]

    def _task(self, stage: Stage, teaching: "Teaching") -> "Task":
        from kdsweep.training.member import Task

        initial = self.initial[stage.initial] if stage.initial else None
        teacher = (lambda: self.answers.network(stage.parents[-1])) if TEACHER in stage.model else None
        return Task(stage, teaching, self.store.unfinished(stage.key), initial=initial, teacher=teacher)

    def _write(self, stage: Stage, fitted: "Fitted", folder: Path) -> None:
        from safetensors.torch import save_file

        save_file(fitted.weights, folder / WEIGHTS, metadata(self.dataset.classes))
        together = {"together": fitted.together} if fitted.together > 1 else {}
        record = {
            "key": stage.key,
            "stage": stage.describe(),
            "history": fitted.history,
            "best_epoch": fitted.best_epoch,
            "seconds": fitted.seconds,
            "images": stage.images,
            "made_by": {**_provenance(self.answers.device(), self.hardware), **together},
        }
        (folder / "stage.json").write_text(json.dumps(record, indent=1))

    def _taken(self, stage: Stage) -> "Fitted":
        """A file of outputs as a trained stage, with its figures on the validation images that it has."""
        import torch

        from kdsweep.networks.build import build
        from kdsweep.training.member import Fitted
        from kdsweep.training.network import selection_metrics

        data, figures = self.dataset, dict[str, float]()
        network = build(stage.model, len(data.classes), data.shape)
        network.read(self.initial[stage.initial or ""])  # type: ignore[operator]
        if data.val and has_logits(stage.model) and network.covers(data.val.names):  # type: ignore[operator]
            logits = looked_up(network, stage, data, "val")
            figures = selection_metrics(logits, torch.tensor(data.val.labels))
        return Fitted(network.state_dict(), [figures], 1, 0.0)


def _origin(role: str, stage: Stage) -> Origin:
    return Origin("stage", stage.describe(), [parent.key for parent in stage.parents], stage.name, role)


def _provenance(device: "torch.device", hardware: Hardware) -> Mapping[str, Any]:
    """Where the weights were made: this may change their last bits, and is not in the key."""
    import torch

    return {
        "kdsweep": __version__,
        "torch": str(torch.__version__),
        **{name: version(name) for name in LIBRARIES if name in sys.modules},
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "threads": hardware.cpu_threads,
    }
