"""The figures of networks that charts can show."""

from collections.abc import Sequence

from kdsweep.analysis.leaderboard import Row
from kdsweep.analysis.metric import Metric
from kdsweep.analysis.statistics import Interval
from kdsweep.report.charts.figures import plain, shown


def metrics(rows: Sequence[Row]) -> list[Metric]:
    """The metrics that the students have, test accuracy first."""
    classes = {job.student.test.positive_class for row in rows for job in row.recipe.jobs}
    positive = sorted(name for name in classes if name)
    f1 = f"F1 of {', '.join(positive)}" if positive else "macro F1"
    known = [
        Metric("test accuracy", "accuracy", True),
        Metric("validation accuracy", "val/accuracy", True),
        Metric(f"test {f1}", "f1", False),
        Metric("test ROC AUC", "roc_auc", False),
        Metric("test calibration error", "calibration_error", True, higher_is_better=False),
    ]
    jobs = [job for row in rows for job in row.recipe.jobs]
    return [each for each in known if any(each.of(job, "student") is not None for job in jobs)]


def hover(label: str, each: Interval, metric: Metric) -> str:
    """The text at a point under the pointer."""
    seeds = f"{each.n} seeds" if each.n > 1 else "one seed"
    return f"{plain(label)}<br>{plain(metric.name)} {shown(each.mean, metric.percent, each.half)}<br>{seeds}"


def unit(metric: Metric) -> str:
    """The title of the metric's axis."""
    return f"{plain(metric.name)} (%)" if metric.percent else plain(metric.name)
