"""Figures of networks over seeds and test images, from the results of jobs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdsweep.analysis.statistics import Estimate, crossed, of_seeds, on_own_images, resampled
from kdsweep.results.result import JobResult


@dataclass(frozen=True)
class Tested:
    """A network's test accuracy; `right` marks the images that it gets right, None if they are unknown.

    `images` identifies the test images; it is empty if they are unknown.
    """

    accuracy: float
    images: str
    right: NDArray[Any] | None = field(repr=False, compare=False)


def tested(jobs: Iterable[JobResult], role: str) -> dict[int, Tested]:
    """What the networks of a role reached, by seed."""
    found = {}
    for job in jobs:
        accuracy = job.test(role)
        if accuracy is not None:
            found[job.seed] = Tested(accuracy, tested_on(job), job.right(role))
    return found


def tested_on(result: JobResult) -> str:
    """What identifies the test images: their content, and how many `test_limit` left; empty if unknown."""
    content, count = result.dataset.get("test_fingerprint"), result.dataset.get("images", {}).get("test")
    return " ".join(str(each) for each in (content, count) if each is not None)


def accuracy(networks: Mapping[int, Tested]) -> Estimate:
    """The mean accuracy of the networks of several seeds. Raises ValueError without networks."""
    found = list(networks.values())
    return _over([each.accuracy for each in found], [each.right for each in found], found)


@dataclass(frozen=True)
class Compared:
    """How much more accurate networks are than others of the same seeds.

    With one seed, `alone_right` counts the images on which only one of the two networks is right, ours first.
    """

    seeds: tuple[int, ...]
    estimate: Estimate
    alone_right: tuple[int, int] | None = None


def compared(ours: Mapping[int, Tested], theirs: Mapping[int, Tested]) -> Compared | None:
    """The comparison, paired by seed and by image; None if the networks share no seed."""
    seeds = tuple(sorted(ours.keys() & theirs.keys()))
    if not seeds:
        return None
    pairs = [(ours[seed], theirs[seed]) for seed in seeds]
    tables = [
        None if a.right is None or b.right is None else a.right.astype(np.int8) - b.right for a, b in pairs
    ]
    estimate = _over([a.accuracy - b.accuracy for a, b in pairs], tables, [a for a, _ in pairs])
    only = tables[0] if len(tables) == 1 else None
    alone = None if only is None else (int((only > 0).sum()), int((only < 0).sum()))
    return Compared(seeds, estimate, alone)


def _over(
    values: Sequence[float], tables: Sequence[NDArray[Any] | None], networks: Sequence[Tested]
) -> Estimate:
    """The mean of `values`, one per seed; `tables` are their images, None if unknown."""
    known = [table for table in tables if table is not None]
    if len(known) < len(values):
        return of_seeds(values)
    if len({each.images for each in networks}) == 1:
        return crossed(np.stack(known))
    return on_own_images(values, known)


def figure_of(jobs: Sequence[JobResult], role: str, name: str) -> Estimate | None:
    """A figure of the test split over the seeds and images of the jobs; None if no job has it."""
    if name == "accuracy":
        found = tested(jobs, role)
        return accuracy(found) if found else None
    having = [(job, value) for job in jobs if (value := job.test(role, name)) is not None]
    if not having:
        return None
    values = [value for _, value in having]
    replicates = [each for job, _ in having if (each := job.resampled(role, name)) is not None]
    images = {(tested_on(job), job.dataset.get("images", {}).get("test")) for job, _ in having}
    if len(replicates) < len(values) or len(images) > 1:
        return of_seeds(values)
    return resampled(values, np.stack(replicates), having[0][0].dataset["images"]["test"])
