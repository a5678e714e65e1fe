"""The figures of networks that charts show, one at a time."""

from collections.abc import Sequence
from dataclasses import dataclass

from kdsweep.report.leaderboard import Row
from kdsweep.report.page.figures import plain, shown
from kdsweep.report.statistics import Interval
from kdsweep.result import Result


@dataclass(frozen=True)
class Metric:
    """A figure of a network as charts show it; `percent` of those that are shares."""

    name: str
    figure: str
    percent: bool
    higher_is_better: bool = True

    def of(self, result: Result, role: str) -> float | None:
        if self.figure == "val/accuracy":
            value = result.networks.get(role, {}).get("val", {}).get(self.figure)
        elif self.figure == "f1" and result.test(role, "f1") is None:
            value = result.test(role, "macro_f1")
        else:
            value = result.test(role, self.figure)
        return None if value is None else value * (100 if self.percent else 1)

    @property
    def unit(self) -> str:
        return f"{plain(self.name)} (%)" if self.percent else plain(self.name)


def metrics(rows: Sequence[Row]) -> list[Metric]:
    """Those that the students have, test accuracy first."""
    positive = {
        job.networks["student"]["test"].get("positive_class") for row in rows for job in row.recipe.jobs
    }
    f1 = "macro F1" if positive == {None} else f"F1 of {', '.join(map(str, sorted(positive - {None})))}"
    known = [
        Metric("test accuracy", "accuracy", True),
        Metric("validation accuracy", "val/accuracy", True),
        Metric(f"test {f1}", "f1", False),
        Metric("test ROC AUC", "roc_auc", False),
        Metric("test calibration error", "calibration_error", True, higher_is_better=False),
    ]
    return [each for each in known if any(values_of(row, each, "student") for row in rows)]


def values_of(row: Row, metric: Metric, role: str) -> dict[int, float]:
    """Seed to value."""
    found = {job.seed: metric.of(job, role) for job in row.recipe.jobs}
    return {seed: value for seed, value in found.items() if value is not None}


def hover(label: str, each: Interval, metric: Metric) -> str:
    """What is told at a point."""
    seeds = f"{each.n} seeds" if each.n > 1 else "one seed"
    return f"{plain(label)}<br>{plain(metric.name)} {shown(each.mean, metric.percent, each.half)}<br>{seeds}"
