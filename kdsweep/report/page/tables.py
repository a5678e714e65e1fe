"""The tables of the page: leaderboard, links of chains, time by role."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from kdsweep.analysis.claims import Difference
from kdsweep.analysis.conclusions import adjusted, percent, points, spread, widths
from kdsweep.analysis.leaderboard import Row
from kdsweep.analysis.measured import accuracy, compared
from kdsweep.analysis.statistics import Interval, interval
from kdsweep.results.names import link_name, written
from kdsweep.results.network import NetworkResult
from kdsweep.results.result import INTERRUPTED, PRUNED, JobResult
from kdsweep.system.terminal import seconds


@dataclass(frozen=True)
class Cell:
    """A cell: its text, the value that sorts it, and a remark under the pointer."""

    text: str
    order: float | str | None = None
    remark: str = ""
    number: bool = True
    strong: bool = False


@dataclass(frozen=True)
class Table:
    """Heads with their explanations, and rows of cells."""

    heads: Sequence[tuple[str, str]]
    rows: Sequence[Sequence[Cell]]


def leaderboard_table(rows: Sequence[Row], keys: Sequence[str]) -> Table:
    """A row per recipe; columns without any value are left out."""
    swept = [key for key in keys if key != "seed" and any(key in row.values for row in rows)]
    columns: list[tuple[str, str, list[Cell]]] = [
        ("rank", "by validation accuracy", [Cell(str(row.rank or ""), row.rank) for row in rows])
    ]
    if len({row.dataset for row in rows}) > 1 and "dataset" not in swept:
        columns.append(("dataset", "", [Cell(row.dataset, row.dataset, number=False) for row in rows]))
    if not swept:
        columns.append(("recipe", "", [Cell(row.label, row.label, number=False) for row in rows]))
    for key in swept:
        columns.append((key.replace("_", " "), "swept", [_value(row.values.get(key)) for row in rows]))
    alone = [_difference(row.versus_alone) for row in rows]
    teacher = [_difference(row.versus_teacher) for row in rows]
    several = any(len(row.seeds) > 1 for row in rows)
    kd = "tuned kd" if any(row.rank for row in rows) else "kd"  # without validation nothing is tuned
    columns += [
        ("test %", _interval("test accuracy", several), [_percent(row.test) for row in rows]),
        ("vs baseline", _versus("the baseline", several), alone),
        (f"vs {kd}", _versus(kd, several), [_difference(row.versus_kd) for row in rows]),
        ("vs teacher", _versus("the teacher", several), teacher),
        ("val %", _mean("validation accuracy", several), [_mean_percent(row.val) for row in rows]),
        ("last", _mean("validation accuracy of the last epoch", several), _last_epochs(rows)),
        *_costs(rows),
        ("training", "of the student, per seed", [_time(row.seconds, row.reused) for row in rows]),
        ("seeds", "that finished", [Cell(str(len(row.seeds)), len(row.seeds), _lost(row)) for row in rows]),
    ]
    return _without_empty_columns(columns)


def _without_empty_columns(columns: Iterable[tuple[str, str, Sequence[Cell]]]) -> Table:
    """The table of columns, each a head with its explanation and cells."""
    kept = [column for column in columns if any(cell.text for cell in column[2])]
    heads = [(head, remark) for head, remark, _ in kept]
    return Table(heads, list(zip(*(cells for *_, cells in kept), strict=True)))


def _last_epochs(rows: Sequence[Row]) -> list[Cell]:
    """Empty if all recipes keep their last epoch, so that "val %" shows it."""
    of_rows = [[job.student for job in row.recipe.jobs] for row in rows]
    if all(each.best_epoch == len(each.history) for students in of_rows for each in students):
        return [Cell("") for _ in rows]
    histories = ([each.history[-1] for each in students] for students in of_rows)
    found = ([each["val/accuracy"] for each in lasts if "val/accuracy" in each] for lasts in histories)
    return [_mean_percent(interval(each)) if each else Cell("") for each in found]


def _costs(rows: Sequence[Row]) -> Iterable[tuple[str, str, list[Cell]]]:
    """Columns of the costs on which recipes differ; a chart has those that all share."""
    for head, remark, name, unit in (
        ("MFLOPs", "per image, millions", "flops", 1e6),
        ("parameters", "", "parameters", 1),
        ("latency ms", "of one image on one thread", "latency_ms", 1),
    ):
        known = {row.cost.get(name) for row in rows}
        if len(known) > 1 or (len(rows) == 1 and known != {None}):
            yield head, remark, [_cost(row.cost, name, unit) for row in rows]


def _mean(what: str, several: bool) -> str:
    return f"{what}, mean over the seeds" if several else what


def _interval(what: str, several: bool) -> str:
    return f"{what}, mean ± half its 95 % interval over seeds and test images" if several else what


def _versus(what: str, several: bool) -> str:
    head = f"points of test accuracy above {what}"
    return f"{head}, paired by seed and image, ± half the 95 % interval" if several else head


def _value(value: Any) -> Cell:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return Cell(written(value) if value is not None else "", value, number=number)


def _percent(each: Interval | None) -> Cell:
    return Cell("") if each is None else Cell(percent(each), each.mean, widths(each))


def _mean_percent(each: Interval | None) -> Cell:
    return Cell("") if each is None else Cell(f"{100 * each.mean:.2f}", each.mean)


def _difference(each: Difference | None) -> Cell:
    if each is None:
        return Cell("")
    remarks = [widths(each.interval), "" if each.p is None else f"p = {each.p:.2g}, {adjusted(each)}"]
    text = f"{points(each.interval.mean, signed=True)}{spread(each.interval)}"
    return Cell(text, each.interval.mean, "; ".join(filter(None, remarks)), strong=each.claimed)


def _cost(cost: dict[str, float], name: str, unit: float) -> Cell:
    if name not in cost:
        return Cell("–", remark="not measured")
    value = cost[name] / unit
    return Cell(f"{value:,.0f}" if name == "parameters" else f"{value:.2f}", value)


def _time(value: float, reused: bool) -> Cell:
    return Cell(seconds(value), value, "reused" if reused else "")


def _lost(row: Row) -> str:
    errors = [job.error for job in row.recipe.lost]
    counts = {each: errors.count(each) for each in (INTERRUPTED, PRUNED)}
    counts = {"failed": len(errors) - sum(counts.values()), **counts}
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count)


def links_table(rows: Sequence[Row]) -> Table | None:
    """The links of chains with networks in between, or several teachers, each for its first recipe, the best
    one if validation ranked them; None if there are none."""
    first: dict[tuple[str, ...], Row] = {}
    for row in rows:
        chain = row.recipe.jobs[0].chain
        if len(chain) > 2:
            first.setdefault((row.dataset, *chain), row)
    if not first:
        return None
    heads = [
        ("recipe", ""), ("link", ""), ("network", ""), ("test %", ""), ("val %", ""),
        ("vs teacher", "points of test accuracy"), ("parameters", ""), ("MFLOPs", ""), ("latency ms", ""),
        ("best epoch", ""), ("training", ""),
    ]  # fmt: skip
    columns = zip(*(cells for row in first.values() for cells in _links(row)), strict=True)
    return _without_empty_columns((*head, cells) for head, cells in zip(heads, columns, strict=True))


def _links(row: Row) -> Iterable[list[Cell]]:
    jobs = row.recipe.jobs
    beside = [role for role in ("ensemble", "scratch") if role in jobs[0].networks]
    for role in (*jobs[0].chain, *beside):
        networks = [job.networks[role] for job in jobs if role in job.networks]
        found, teacher = row.recipe.test(role), row.recipe.test("teacher")
        above = compared(found, teacher) if role != "teacher" else None
        cost = row.recipe.cost(role)
        epochs = [network.best_epoch for network in networks if network.best_epoch]
        time = fmean(network.seconds for network in networks)
        yield [
            Cell(row.label, number=False),
            Cell(link_name(role), number=False),
            Cell(networks[0].name, number=False),
            _percent(accuracy(found).interval()),
            _mean_percent(interval(list(val)) if (val := row.recipe.val(role).values()) else None),
            Cell("" if above is None else points(above.estimate.mean, signed=True)),
            _cost(cost, "parameters", 1),
            _cost(cost, "flops", 1e6),
            _cost(cost, "latency_ms", 1),
            Cell(f"{fmean(epochs):.3g}" if epochs else ""),
            Cell(seconds(time) if role != "ensemble" else ""),
        ]


@dataclass(frozen=True)
class Times:
    """The time that training took, role by role, and in a sentence."""

    says: str
    table: Table


def times(results: Sequence[JobResult]) -> Times:
    """Networks by role: how many jobs used, how many were trained or reused. A key is one network.

    One job's student may be a link of another job's chain: the sweep trained it in both roles, but its time
    counts in the role in which it was trained.
    """
    uses: dict[str, dict[str, list[NetworkResult]]] = {}
    trained_as: dict[str, str] = {}  # key to role
    for result in results:
        for role, network in result.networks.items():
            if role != "ensemble":
                uses.setdefault(role, {}).setdefault(network.key, []).append(network)
                if not network.reused:
                    trained_as.setdefault(network.key, role)
    rows, spent_all, saved_all = [], 0.0, 0.0
    for role, by_key in uses.items():
        networks = by_key.values()
        trained = by_key.keys() & trained_as.keys()
        spent = sum(each[0].seconds for key, each in by_key.items() if trained_as.get(key) == role)
        saved = sum(each[0].seconds * len(each) for each in networks) - spent
        spent_all, saved_all = spent_all + spent, saved_all + saved
        rows.append(
            [
                Cell(link_name(role), number=False),
                Cell(str(sum(map(len, networks)))),
                Cell(str(len(networks))),
                Cell(str(len(trained))),
                Cell(str(len(networks) - len(trained))),
                Cell(seconds(spent)),
                Cell(seconds(saved)),
            ]
        )
    heads = [
        ("", ""), ("jobs", "that needed one"), ("networks", "different ones"),
        ("trained", "by this sweep, in this role or another"), ("reused", "from the store, trained before"),
        ("time spent", "on training in this role"), ("time saved", "by reuse"),
    ]  # fmt: skip
    count = "1 network was" if len(trained_as) == 1 else f"{len(trained_as)} networks were"
    says = (
        f"{count} trained in {seconds(spent_all)}. Reuse, within the sweep and from the store, saved "
        f"{seconds(saved_all)} of training. All jobs together took "
        f"{seconds(sum(result.seconds for result in results))}."
    )
    return Times(says, Table(heads, rows))
