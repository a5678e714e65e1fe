"""Print which places of student and teacher the terms of a plan's jobs compare."""

from collections.abc import Sequence

from kdsweep.stage import Stage
from kdsweep.stages.prepare import Job
from kdsweep.system.terminal import console


def show_taps(jobs: Sequence[Job]) -> None:
    """Print each pair of taps once, by the networks that have them: at: stage1 16×8×8 ↔ layer1 64×8×8."""
    shown: set[str] = set()
    for job in jobs:
        for stage in job.plan.links().values():
            lines = _lines(stage, job)
            heading = f"taps of {stage.name} and its teacher {stage.parents[0].name}" if lines else ""
            text = "\n  ".join([heading, *lines])
            if lines and text not in shown:
                console().print("", text, sep="\n", markup=False)
            shown.add(text)


def _lines(stage: Stage, job: Job) -> list[str]:
    if not any(term.get("taps") for term in stage.objective.values()) or not stage.parents:
        return []
    from kdsweep.training.try_terms import tap_pairs

    pairs = tap_pairs(stage, len(job.dataset.classes), job.dataset.shape, job.initial)
    return [f"{name}: {', '.join(of_term)}" for name, of_term in pairs.items()]
