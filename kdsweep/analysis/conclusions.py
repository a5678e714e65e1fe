"""The answer that a sweep gives, in sentences made from its data, which claim no more than the data do.

A difference is "above" or "below" only where it is more than chance, of seeds and of test images
(`Difference.claimed`), or is said to be that of one seed, of which nothing can be claimed. All else is not
told apart.
"""

from collections.abc import Sequence

from kdsweep.analysis.claims import LEVEL, Difference
from kdsweep.analysis.leaderboard import Row, leaderboard
from kdsweep.analysis.recipes import SEED, expected, recipes, seed_of
from kdsweep.analysis.statistics import Interval, mcnemar
from kdsweep.results.record import Record
from kdsweep.results.result import INTERRUPTED, PRUNED, JobResult

LEAST_LUCK = 0.0005  # of accuracy; less is not worth a sentence
NAMED = 3  # recipes or failed jobs that a sentence names; of more it tells the number


def answer(record: Record, rows: Sequence[Row]) -> list[str]:
    """Plain sentences: the best recipe of each data set against the student alone, the teacher and the other
    recipes, what one seed cannot tell, and which jobs are missing. `rows` is the record's leaderboard.
    """
    told: list[str] = []
    datasets = list(dict.fromkeys(row.dataset for row in rows))
    for name in datasets:
        of_name = [row for row in rows if row.dataset == name]
        told += _of_dataset(of_name, len(datasets) > 1, _seeds_of(record, of_name[0]), record)
    return told + _confirmed(record, len(datasets) > 1) + _missing(record, bool(rows))


def _confirmed(record: Record, named: bool) -> list[str]:
    """What fresh seeds say, on which nothing was chosen."""
    told = []
    for row in leaderboard(record.confirmation):
        where = f"on {row.dataset}, " if named else ""
        fresh = f"With {len(row.seeds)} fresh seed{'s' if len(row.seeds) > 1 else ''}"
        sentence = (
            f"{fresh}, which had no part in the choice, {where}{row.label} reaches {percent(row.test)} %"
        )
        if row.versus_alone:
            sentence += f": {compared(row.versus_alone, 'the student alone', len(row.seeds))}"
        told.append(f"{sentence}.")
    return told


def _seeds_of(record: Record, row: Row) -> int | None:
    """How many seeds the recipe was to have; None if jobs that might have been its are not known."""
    known = {job.seed for job in (*row.recipe.jobs, *row.recipe.lost)}
    swept = {seed_of(result) for result in record.results}
    if SEED not in record.sweep.keys or expected(record) == len(record.results):
        return len(known)
    return len(swept) if len(swept) > 1 else None


def _again(record: Record) -> str:
    """How one comes to several seeds; a search would draw one of them for each trial."""
    search = record.sweep.config.get("search")
    return (
        "the same with seed=range(3), outside the search, allows it" if search else "seed=range(3) allows it"
    )


def _of_dataset(rows: Sequence[Row], named: bool, of_seeds: int | None, record: Record) -> list[str]:
    best, others = rows[0], rows[1:]
    one, several = f"the recipe {best.label}", f"the best of {len(rows)} recipes by validation, {best.label},"
    subject = (f"on {best.dataset}, " if named else "") + (several if others else one)
    over = _seeds(len(best.seeds))
    if len(best.seeds) == 1 and best.test.over_images:
        over += f" (± {points(best.test.over_images)} over test images)"
    reached = f"{percent(best.test)} % on the test split over {over}"
    told = f"{subject[0].upper()}{subject[1:]} reaches {reached}"
    if best.versus_alone:
        told += f": {compared(best.versus_alone, 'the student alone', len(best.seeds))}"
    sentences = [f"{told}.", *_narrowed_by(best)]
    if best.versus_teacher:
        cost = _cheaper(best)
        sentences.append(f"{_against_teacher(best)}{f', with {cost}' if cost else ''}.")
    sentences += _without_baseline(best, others)
    if len(best.seeds) == 1:
        order = ", the order of the recipes included" if others else ""
        why = {
            None: "only one of its seeds finished",
            1: _again(record),
        }.get(of_seeds, f"only one of its {of_seeds} seeds finished")
        sentences.append(f"With one seed no statement about chance can be made{order}; {why}.")
        return sentences
    luck = _luck(best, others, bool(record.confirmations))
    return sentences + luck + (_among(best, others) if others else [])


def _narrowed_by(best: Row) -> list[str]:
    """What would make the first difference surer, where that is not more seeds."""
    found = best.versus_alone.interval if best.versus_alone else best.test
    if found.over_seeds is None or not found.over_images or found.over_images < 1.5 * found.over_seeds:
        return []
    narrowed = "a larger test split narrows it, more seeds do not"
    return [f"Most of that uncertainty comes from the test images: {narrowed}."]


def _luck(best: Row, others: Sequence[Row], confirmed: bool) -> list[str]:
    """What the best may owe to having been chosen among several."""
    if not best.luck or best.luck < LEAST_LUCK:
        return []
    count = sum(row.recipe.taught for row in (best, *others))
    owed = f"it may owe up to about {points(best.luck)} points to lucky seeds"
    luck = f"Chosen as the best of {count} recipes, {owed}"
    return [f"{luck}." if confirmed else f"{luck}; confirm=5 trains it again with fresh ones."]


def _without_baseline(best: Row, others: Sequence[Row]) -> list[str]:
    """How distilled and alone compare where the best has no baseline: by a recipe of the other kind."""
    if best.versus_alone:
        return []
    if not best.recipe.taught:
        distilled = next((row for row in others if row.recipe.taught and row.versus_best), None)
        if distilled is None:
            return []
        of = "distilled recipes the best by validation"
        return [f"It is the student alone. Of the {of}, {distilled.label}, is {_to_best(distilled)}."]
    alone = [row for row in others if not row.recipe.taught]
    if not alone:
        where = " beside it" if any(row.versus_alone for row in others) else ""
        return [f"No student was trained alone{where}, so whether distillation helps here stays open."]
    same = next((row for row in alone if row.versus_best and row.recipe.same_student(best.recipe)), None)
    return [f"The student alone, {same.label}, is {_to_best(same)}."] if same else []


def _to_best(row: Row) -> str:
    assert row.versus_best is not None
    return compared(row.versus_best, "it", len(row.seeds))


def _among(best: Row, others: Sequence[Row]) -> list[str]:
    """How the best by validation stands among the other recipes on the test split."""
    above = [row for row in others if _claimed(row) and row.versus_best and row.versus_best.interval.mean > 0]
    ties = [row for row in others if not _claimed(row)]
    sentences = []
    if above:
        sentences.append(f"Above it on the test split, by which nothing is chosen: {_labels(above)}.")
    if len(ties) == len(others):
        sentences.append("No other recipe is told apart from it.")
    elif ties:
        sentences.append(f"Not told apart from it: {_labels(ties)}.")
    elif not above:
        sentences.append("Every other recipe is below it, by more than chance.")
    return sentences


def _claimed(row: Row) -> bool:
    return row.versus_best is not None and row.versus_best.claimed


def _labels(rows: Sequence[Row]) -> str:
    return _listed([row.label for row in rows])


def _listed(names: Sequence[str]) -> str:
    shown = "; ".join(names[:NAMED])
    return f"{shown}; and {len(names) - NAMED} more" if len(names) > NAMED else shown


def compared(difference: Difference, other: str, seeds: int) -> str:
    """A difference in points of accuracy in words as strong as it is: 0.61 points above the teacher (…).

    `seeds` are those of the recipe, not all of which the other may have.
    """
    found, count = difference.interval, len(difference.seeds)
    size = f"{points(abs(found.mean))} points {'above' if found.mean > 0 else 'below'} {other}"
    if not found.mean:
        size = f"level with {other}"
    if count == 1:
        return f"{size} in one seed{_of_networks(difference)}"
    by = _interval(difference, seeds)
    if difference.claimed:
        return f"{size} ({by})"
    signed = f"{points(found.mean, signed=True)} points, {by}"
    if found.over_images is None:
        signed += ", seeds alone: which test images were right is not known"
    elif found.without_zero and difference.p is not None and difference.p > LEVEL:
        signed += f", but p = {difference.p:.2g} {adjusted(difference)}"
    return f"not told apart from {other} ({signed})"


def _against_teacher(best: Row) -> str:
    """What was measured, which is no claim: whether a student is as good as its teacher is no yes or no."""
    assert best.versus_teacher is not None
    found, count = best.versus_teacher.interval, len(best.versus_teacher.seeds)
    size = f"Against the teacher it has {points(found.mean, signed=True)} points"
    if not found.mean:
        size = "It is level with the teacher"
    return f"{size} {'in one seed' if count == 1 else f'({_interval(best.versus_teacher, len(best.seeds))})'}"


def _interval(difference: Difference, seeds: int) -> str:
    """95 % interval 0.40 to 2.82: ± 0.40 over seeds, ± 1.18 over test images."""
    found, count = difference.interval, len(difference.seeds)
    parts = f": {widths(found)}" if widths(found) else ""
    both = "" if count == seeds else f", {count} seeds in common"
    return f"95 % interval {points(found.low)} to {points(found.high)}{parts}{both}"


def _of_networks(difference: Difference) -> str:
    """What the images say of the two networks, which is nothing about their recipes."""
    if difference.alone_right is None or not sum(difference.alone_right):
        return ""
    ours, theirs = difference.alone_right
    p = mcnemar(ours, theirs)
    only = f"of the {ours + theirs} test images that only one of these two networks gets right"
    return f" ({only}, it gets {ours}: p = {p:.2g}, exact McNemar test)"


def widths(found: Interval) -> str:
    """Half the interval by seeds and by test images alone: ± 0.40 over seeds, ± 1.18 over test images."""
    parts = ((found.over_seeds, "seeds"), (found.over_images, "test images"))
    told = [f"± {points(half)} over {what}" for half, what in parts if half is not None]
    return ", ".join(told) if len(told) == 2 else ""


def adjusted(difference: Difference) -> str:
    """What its p was adjusted for."""
    if difference.primary:
        return f"as the best of {difference.among} recipes"
    return f"by Holm among {difference.among} comparisons"


def percent(found: Interval) -> str:
    """An accuracy in percent with the half width of its interval: 98.42 ± 0.11."""
    return f"{100 * found.mean:.2f}{spread(found)}"


def spread(found: Interval) -> str:
    """Half the interval, in points; empty where one value, or equal ones, tell nothing of others."""
    return f" ± {100 * found.half:.2f}" if found.half else ""


def points(difference: float | None, signed: bool = False) -> str:
    """A difference of accuracies in points, with the true minus; empty where there is none."""
    if difference is None:
        return ""
    text = f"{100 * difference:{'+' if signed else ''}z.2f}"
    return text.replace("-", "−")


def _cheaper(row: Row) -> str:
    """How the student's costs are to the teacher's: 7.6 times fewer FLOPs and 1.3 times fewer parameters."""
    told = []
    for name, shown in (("flops", "FLOPs"), ("parameters", "parameters")):
        ours, theirs = row.cost.get(name), row.teacher_cost.get(name)
        if not ours or not theirs:
            continue
        ratio = max(ours, theirs) / min(ours, theirs)
        times = f"{ratio:.1f}" if ratio < 100 else f"{ratio:,.0f}"
        told.append(
            f"as many {shown}" if ours == theirs
            else f"about as many {shown}" if times == "1.0"
            else f"{times} times {'fewer' if ours < theirs else 'more'} {shown}"
        )  # fmt: skip
    return " and ".join(told)


def _seeds(count: int) -> str:
    return "one seed" if count == 1 else f"{count} seeds"


def _missing(record: Record, any_finished: bool) -> list[str]:
    """Which jobs gave no result, and why."""
    jobs = expected(record)
    lost = [job for recipe in recipes(record) for job in recipe.lost]
    sentences = [] if any_finished else [f"None of {_jobs(jobs)} finished."]
    failed = [job for job in lost if job.error not in (INTERRUPTED, PRUNED)]
    if failed:
        sentences.append(f"{len(failed)} of {_jobs(jobs)} failed: {_listed([_told(job) for job in failed])}.")
    for count, what in (
        (sum(job.error == INTERRUPTED for job in lost), "interrupted"),
        (sum(job.error == PRUNED for job in lost), "pruned, as the search saw fit"),
        (jobs - len(record.results), "without a result: not run, or under way"),
    ):
        if count:
            sentences.append(f"{count} of {_jobs(jobs)} {'was' if count == 1 else 'were'} {what}.")
    return sentences


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count} jobs"


def _told(job: JobResult) -> str:
    """A job by its swept values, with the first line of its error."""
    first = (job.error or "").strip().splitlines()[:1]
    why = first[0].rstrip(".") if first else "no reason is known"
    return f"{job.name or 'the job'} ({why[:120]})"
