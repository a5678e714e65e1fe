"""Pictures of a job from the inside: its links, and how its student learned."""

from collections.abc import Sequence
from pathlib import Path

from kdsweep.analysis.measured import accuracy, tested
from kdsweep.analysis.statistics import Interval
from kdsweep.report.look import COLOURS, MARKERS, MOST_LINES, SCRATCH, figure, halves, of_seeds
from kdsweep.results.names import link_name, named
from kdsweep.results.result import JobResult


def has_links(results: Sequence[JobResult]) -> bool:
    """Whether there is anything between teacher and student."""
    return any(len(result.chain) > 2 for result in results)


def draw_chain(results: Sequence[JobResult], swept: Sequence[str], file: Path) -> None:
    """Test accuracy link by link, from the teacher on: a line for each combination of swept values.

    Seeds give a mean and its 95 % interval; a star is the chain's ensemble. A student alone is no chain.
    """
    groups: dict[str, list[JobResult]] = {}
    chains = [result for result in results if len(result.chain) > 1]
    for result in chains:
        kept = {key: result.swept[key] for key in swept if key != "seed" and key in result.swept}
        name = named(kept, result.options)
        groups.setdefault(name, []).append(result)
    picture, (axes,) = figure(7.2, 4.6)
    longest = max((result.chain for result in chains), key=len)
    for i, (name, group) in enumerate(list(groups.items())[:MOST_LINES]):
        colour, chain = COLOURS[i % len(COLOURS)], group[0].chain
        values = [_accuracy(group, role) for role in chain]
        axes.errorbar(
            range(len(chain)),
            [each.mean for each in values],
            halves(values),
            color=colour,
            marker=MARKERS[i % len(MARKERS)],
            capsize=3,
            label=name or "chain",
        )
        if "ensemble" in group[0].networks:
            at = (len(chain) - 0.85, _accuracy(group, "ensemble").mean)
            label = "ensemble" if i == 0 else None
            axes.scatter(*at, marker="*", s=130, color=colour, label=label, zorder=3)
    alone = {result.seed: result for result in results if "scratch" in result.networks}
    if alone:
        level = _accuracy(list(alone.values()), "scratch").mean
        label = f"student alone ({level:.2f})"
        axes.axhline(level, color=SCRATCH, linestyle="--", linewidth=1.2, label=label)
    same = all(result.chain == longest for result in chains)
    ticks = [link_name(role) if same or not i else f"link {i}" for i, role in enumerate(longest)]
    axes.set_xticks(range(len(longest)), ticks)
    axes.set(xlabel="from teacher to student", ylabel="test accuracy (%)")
    axes.set_title(of_seeds(len({result.seed for result in chains})), fontsize=10)
    axes.grid(alpha=0.25)
    picture.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    picture.savefig(file)


def draw_curves(result: JobResult, file: Path) -> None:
    """Training and validation accuracy per epoch, the distilled student against the student alone."""
    from matplotlib.ticker import MaxNLocator

    picture, (axes,) = figure(7.2, 4.6)
    for role, label, colour in (("student", "distilled", COLOURS[0]), ("scratch", "alone", COLOURS[1])):
        network = result.networks.get(role)
        if network is None:
            continue
        label = label if len(result.chain) > 1 else "student"
        epochs = range(1, len(network.history) + 1)
        for name, style, what in (("val/accuracy", "-", "validation"), ("train/accuracy", "--", "training")):
            values = [100 * epoch.get(name, float("nan")) for epoch in network.history]
            marker = "o" if len(values) == 1 else None
            axes.plot(epochs, values, color=colour, linestyle=style, marker=marker, label=f"{label}, {what}")
        chosen = 100 * network.val.accuracy
        axes.plot(
            [network.best_epoch or 0], [chosen], color=colour, marker="*", markersize=12, linestyle="none"
        )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch (star: the one kept)", ylabel="accuracy (%)")
    axes.set_title(result.name or "distilled against alone", fontsize=10)
    axes.grid(alpha=0.25)
    picture.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    picture.savefig(file)


def _accuracy(results: Sequence[JobResult], role: str) -> Interval:
    return accuracy(tested(results, role)).interval().times(100)
