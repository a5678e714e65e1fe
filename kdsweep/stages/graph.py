"""The stages of a sweep as a graph: which its jobs need, which are trained, which may begin, which wait.

Planning, waiting, turns and the forecast all read it. It knows stages by their keys, as `sweep.json` has
them, so that a launcher needs no more than that file.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from kdsweep.stage import Stage

Links = Mapping[str, Stage]  # the stages of a job by role, in the order of their training


class Node(NamedTuple):
    """A stage, the role in which it is met first, and the places of the jobs that need it."""

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
    """The links of a job as it trains them: the student of the chain comes last, after the one `alone`."""
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
        """What is still to be trained for a job, by itself or by another."""
        return [key for key in self.jobs[job] if key not in self.trained]

    def ready(self, job: int = 0) -> list[str]:
        """What of a job may begin: its teachers are trained, and no one trains it."""
        return [
            key
            for key in self.missing(job)
            if key not in self.under_way and self.trained.issuperset(self.parents[key])
        ]

    def may_begin(self, job: int) -> bool:
        """Whether a job would train nothing that another trains already."""
        return self.under_way.isdisjoint(self.missing(job))

    def begin(self, keys: Iterable[str]) -> None:
        self.under_way.update(keys)

    def end(self, keys: Iterable[str], trained: bool = True) -> None:
        """What was under way has ended; what was not `trained` may begin again."""
        ended = set(keys)
        self.under_way -= ended
        if trained:
            self.trained |= ended
