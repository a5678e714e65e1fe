"""The stages of a sweep as a graph: which its jobs need, which are trained, which may begin, which wait.

Planning, waiting, turns and the estimate all read it. It identifies stages by key, as `sweep.json` does, so
that a launcher needs no more than that file.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from kdsweep.stage import Stage

Links = Mapping[str, Stage]  # the stages of a job by role, in the order of their training


class Node(NamedTuple):
    """A stage, its role in the first job that needs it, and the places of all such jobs."""

    role: str
    stage: Stage
    jobs: list[int]


def nodes(jobs: Iterable[Links]) -> dict[str, Node]:
    """Each stage of the jobs once, by its key."""
    found: dict[str, Node] = {}
    for number, links in enumerate(jobs):
        for role, stage in links.items():
            node = found.setdefault(stage.key, Node(role, stage, []))
            if number not in node.jobs[-1:]:
                node.jobs.append(number)
    return found


def in_order(chain: Links, alone: Links) -> dict[str, Stage]:
    """The links of a job in the order of training: the chain's student last, after the baseline, `alone`."""
    before, (role, student) = list(chain.items())[:-1], list(chain.items())[-1]
    return {**dict(before), **alone, role: student}


@dataclass
class Graph:
    """`jobs` are the keys of each job's stages, `parents` those of the stages that teach a stage.

    `trained` and `under_way` change as the work goes on.
    """

    jobs: Sequence[Collection[str]]
    parents: Mapping[str, Collection[str]] = field(default_factory=dict)
    trained: set[str] = field(default_factory=set)
    under_way: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, jobs: Sequence[Links], trained: Iterable[str] = ()) -> Self:
        parents = {key: [parent.key for parent in node.stage.parents] for key, node in nodes(jobs).items()}
        keys = [list(dict.fromkeys(stage.key for stage in links.values())) for links in jobs]
        return cls(keys, parents, set(trained))

    def missing(self, job: int = 0) -> list[str]:
        """The stages of a job that no job has trained yet."""
        return [key for key in self.jobs[job] if key not in self.trained]

    def ready(self, job: int = 0) -> list[str]:
        """The stages of a job that may begin: their teachers are trained, and no job trains them."""
        return [
            key
            for key in self.missing(job)
            if key not in self.under_way and self.trained.issuperset(self.parents[key])
        ]

    def may_begin(self, job: int) -> bool:
        """Whether a job would train no stage that another is training."""
        return self.under_way.isdisjoint(self.missing(job))

    def begin(self, keys: Iterable[str]) -> None:
        self.under_way.update(keys)

    def end(self, keys: Iterable[str], trained: bool = True) -> None:
        """Mark stages as no longer under way; those that were not `trained` may begin again."""
        ended = set(keys)
        self.under_way -= ended
        if trained:
            self.trained |= ended
