"""What a teacher says of the batches of a trajectory: the augmented images that a seed gives, epoch by epoch.

What it says of an epoch is an entry of the store, which all students that see the same batches share. The
first of them records it while it learns, since a pass for the teacher alone would draw and change all images
once more.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save_file
from torch import Tensor

from kdsweep.errors import DiskFull, TrainingError
from kdsweep.methods import LOGITS
from kdsweep.methods.term import Outputs
from kdsweep.networks.taps import Tapped
from kdsweep.stage import FORMAT, Stage, digest
from kdsweep.store.origin import Origin
from kdsweep.store.store import ANSWERS, Busy, Store
from kdsweep.system.progress import once

log = logging.getLogger(__name__)

_recorded: set[str] = set()  # the keys that this process is recording


class Live:
    """A teacher's network, built when it is first asked; `example` gives two images for it."""

    def __init__(self, build: Callable[[], Tapped], example: Callable[[], Tensor]) -> None:
        self._build, self._example = build, example

    @cached_property
    def network(self) -> Tapped:
        with torch.random.fork_rng(devices=[]):  # its initial weights are drawn, and the student draws too
            return self._build()

    def __call__(self, indices: Tensor, inputs: Tensor) -> Outputs:
        with torch.no_grad():
            return self.network(inputs)

    def example(self) -> Outputs:
        images = self._example()
        return self(torch.arange(len(images)), images)


class Trajectory:
    """What a teacher of `stage` says of each batch, asked for once and in order within an `epoch`.

    It gives the `parts` logits, embedding or both, of so many `images` in an epoch, and its head if that is
    wanted. Each part is an entry of its own, so that another method finds what it shares with this one.
    """

    def __init__(
        self,
        store: Store,
        stage: Stage,
        teacher: Stage,
        parts: Sequence[str],
        images: int,
        live: Live,
        with_head: bool,
    ) -> None:
        self.store, self.stage, self.teacher, self.parts = store, stage, teacher, parts
        self.images, self.live, self.with_head = images, live, with_head
        self._half = stage.training.answers == "float16"
        self._limit = store.answers_gb * 1e9
        self._place = 0  # in the epoch under way
        self._played: dict[str, Tensor] = {}  # all that is said in it, if that is known
        self._heard: dict[str, list[Tensor]] = {}  # else what was said so far of the parts that are recorded

    def __call__(self, indices: Tensor, inputs: Tensor) -> Outputs:
        rows = slice(self._place, self._place + len(indices))
        self._place = rows.stop
        if self._played:
            # copied, so that it lies in memory as what a network gives: matrix products may depend on that
            said = {part: each[rows].to(inputs.device, copy=True) for part, each in self._played.items()}
        else:
            said = self._of(self.live(indices, inputs))
            for part, heard in self._heard.items():
                heard.append(said[part].clone())  # a term of the user's may change what it is given
        values = {part: each.float() for part, each in said.items()}
        taps = {part: (each,) for part, each in values.items() if part != LOGITS}
        return Outputs(values[self.parts[0]], taps, self.live.network.head if self.with_head else None)

    @contextmanager
    def epoch(self, number: int) -> Iterator[None]:
        """Play an epoch if the store has it; else record it, if it is within the limit.

        An error leaves no entry.
        """
        self._place, learned = 0, False
        try:
            with ExitStack() as stack:
                said, folders = self._begun(number, stack)
                self._played = said if len(said) == len(self.parts) else {}
                self._heard = {part: [] for part in folders}
                yield
                learned = True
                assert self._place == self.images or not (said or folders), "each batch is asked for once"
                for part, folder in folders.items():
                    save_file({part: torch.cat(self._heard[part]).cpu()}, folder / ANSWERS)
        except DiskFull as error:
            if not learned:
                raise
            self._limit = 0.0
            once(log.warning, f"{error}; until then, teachers are asked in every step")
        finally:
            self._played, self._heard = {}, {}

    def _begun(self, number: int, stack: ExitStack) -> tuple[dict[str, Tensor], dict[str, Path]]:
        """What is known of an epoch, and folders, until `stack` ends, for what is to be recorded."""
        if not self._limit:
            return {}, {}
        known, folders = self._known(self.parts, number), dict[str, Path]()
        missing = [part for part in self.parts if part not in known]
        if missing and self._are_kept(missing, number):
            for part in missing:
                if folder := stack.enter_context(self._entry(part, number)):
                    folders[part] = folder
            known |= self._known([part for part in missing if part not in folders], number)
        return known, folders

    def _known(self, parts: Sequence[str], number: int) -> dict[str, Tensor]:
        """What the store has of an epoch, read as a whole: another process may remove it at any time."""
        found = {}
        for part in parts:
            if entry := self.store.find(digest(self._describe(part, number))):
                with suppress(OSError):
                    found[part] = load((entry / ANSWERS).read_bytes())[part]
        return found

    @contextmanager
    def _entry(self, part: str, number: int) -> Iterator[Path | None]:
        """The folder of what is said in an epoch; None if the store has it by now, or will have it.

        A process waits for another that is recording it, unless it is recording something itself: so no two
        wait for each other.
        """
        description, folder = self._describe(part, number), None
        origin = Origin("answers", description, [self.teacher.key], self.teacher.name)
        with ExitStack() as stack:
            with suppress(Busy):
                entry = self.store.entry(
                    digest(description), origin=origin, wait=not _recorded, flush=False
                )  # what can be made again need not survive a loss of power
                path, found = stack.enter_context(entry)
                folder = None if found else path
            if folder:
                _recorded.add(folder.name)
                stack.callback(_recorded.discard, folder.name)
            yield folder

    def _are_kept(self, parts: Sequence[str], number: int) -> bool:
        within = number * sum(self._sizes.values()) <= self._limit
        return within and self.store.has_room(sum(self._sizes[part] for part in parts))

    @cached_property
    def _sizes(self) -> dict[str, int]:
        """The bytes of each part in an epoch."""
        example = self._of(self.live.example())
        return {part: self.images * each[0].numel() * each.element_size() for part, each in example.items()}

    def _of(self, outputs: Outputs) -> dict[str, Tensor]:
        """The parts of what a network gives, as they are kept."""
        said = {
            part: (outputs.logits if part == LOGITS else outputs.taps[part][0]).contiguous()
            for part in self.parts
        }
        if not self._half:
            return said
        rounded = {part: each.half() for part, each in said.items()}
        if not all(each.isfinite().all() for each in rounded.values()):
            raise TrainingError(
                f"training.answers=float16: teacher {self.teacher.name} gives numbers that are too large for "
                "it; allowed: float32"
            )
        return rounded

    def _describe(self, part: str, number: int) -> dict[str, Any]:
        """What determines the answers, and nothing else of the stage."""
        recipe = self.stage.training
        return {
            "answers": self.teacher.key,
            "of": part,
            "data": dict(self.stage.data),
            "seed": self.stage.seed,
            "batch_size": recipe.batch_size,
            "sampling": recipe.sampling,
            "mixed_precision": recipe.mixed_precision,
            "numbers": recipe.answers,
            "epoch": number,
            "format": FORMAT,
        }
