"""The answer that a sweep gives, in sentences that claim no more than its data show.

A difference is called "above" or "below" only if it is more than the chance of seeds and of test images
(`Difference.claimed`), or if the sentence says that it comes from one seed, which supports no claim. Any
other difference is called "not distinguishable".
"""

from collections import Counter
from collections.abc import Callable, Sequence

from kdsweep.analysis.claims import LEVEL, Difference
from kdsweep.analysis.leaderboard import Row, leaderboard
from kdsweep.analysis.recipes import SEED, expected, recipes, seed_of
from kdsweep.analysis.statistics import Interval, mcnemar
from kdsweep.results.names import METHOD
from kdsweep.results.record import Record
from kdsweep.results.result import INTERRUPTED, PRUNED, JobResult

BASELINE = "the baseline"
LEAST_LUCK = 0.0005  # of accuracy; less is not worth a sentence
NAMED = 3  # recipes or failed jobs that a sentence names; it counts the rest


def answer(record: Record, rows: Sequence[Row]) -> list[str]:
    """Sentences about the best recipe of each data set and about missing jobs.

    They compare it with its baseline, its teacher and the other recipes, and say what one seed cannot
    show. `rows` is the leaderboard.
    """
    sentences: list[str] = []
    datasets = list(dict.fromkeys(row.dataset for row in rows))
    for name in datasets:
        of_name, named = [row for row in rows if row.dataset == name], len(datasets) > 1
        ranked, unranked = ([row for row in of_name if bool(row.rank) == each] for each in (True, False))
        if ranked:
            sentences += _of_dataset(ranked, named, _seeds_of(record, ranked[0]), record)
        if unranked:
            sentences += _without_validation(unranked, named, bool(ranked), record)
    if record.trials:
        sentences += [_tuning(record), *_versus(rows, lambda row: row.versus_kd, "tuned kd")]
    elif wanted := record.sweep.config.get("tune"):
        sentences.insert(
            0, f"These are the trials of tune={wanted}; run the same command to compare the best."
        )
    return sentences + _confirmed(record, len(datasets) > 1) + _missing(record, bool(rows))


def _tuning(record: Record) -> str:
    """How the recipes that are compared were chosen."""
    methods = {job.swept.get(METHOD) for job in record.trials}
    counts = Counter((job.swept.get(METHOD), seed_of(job)) for job in record.trials).values()
    trials = str(max(counts)) if len(set(counts)) == 1 else f"up to {max(counts)}"
    return (
        f"Each of {len(methods)} methods was tuned by {trials} trials in its own search space; "
        "the first has its published defaults. The best by validation, and the defaults (rows without "
        "numbers), were trained again with fresh seeds and are compared here."
    )


def _versus(rows: Sequence[Row], of: Callable[[Row], Difference | None], other: str) -> list[str]:
    """Which recipes are distinguishable from another one, such as tuned kd; `of` is a row's difference."""
    known = [(row.label, difference) for row in rows if (difference := of(row))]
    claimed = [(label, difference.interval.mean > 0) for label, difference in known if difference.claimed]
    sentences = [
        f"{_listed(labels)}: {where} {other}, by more than chance."
        for is_above, where in ((True, "above"), (False, "below"))
        if (labels := [label for label, above in claimed if above == is_above])
    ]
    ties = len(known) - len(claimed)
    if ties and len(known) == 1:
        sentences.append(f"{known[0][0]} is not distinguishable from {other}.")
    elif ties:
        sentences.append(f"{ties} of {len(known)} recipes are not distinguishable from {other}.")
    return sentences


def _without_validation(rows: Sequence[Row], named: bool, beside: bool, record: Record) -> list[str]:
    """How recipes compare of which none may be called the best; `beside` others that validation ranked."""
    none = f"{f'On {rows[0].dataset}, n' if named else 'N'}o image was held back for validation"
    flatters = ", and choosing a recipe by its test accuracy would flatter it" if len(rows) > 1 else ""
    sentences = [f"{none}, so nothing was selected: {_kept(rows)}{flatters}."]
    if beside:
        labels = _listed([row.label for row in rows])
        sentences = [
            f"{labels}: no image was held back for validation, so this was not ranked and never chosen, and "
            "is compared with the baseline only."
        ]
    one_seed = all(len(row.seeds) == 1 for row in rows)
    if len(rows) <= NAMED:
        sentences += [f"{row.label} reaches {_reached(row)}." for row in rows]
    elif not one_seed:
        sentences += _versus(rows, lambda row: row.versus_alone, BASELINE)
    if not one_seed:
        sentences += _versus(rows, lambda row: row.versus_kd, "kd")
    if not any(row.versus_alone for row in rows):
        sentences.append("No baseline was trained, so this sweep cannot show whether distillation helps.")
    if one_seed:
        why = _why_one_seed(_seeds_of(record, rows[0]), record)
        sentences.append(f"One seed cannot show whether a difference is chance; {why}.")
    return sentences


def _kept(rows: Sequence[Row]) -> str:
    """Which weights are compared."""
    by_loss = any(job.student.training.get("keep") == "best" for row in rows for job in row.recipe.jobs)
    which = "the epoch with the lowest training loss" if by_loss else "the last epoch"
    return f"the weights of {which} are {'compared' if len(rows) > 1 else 'tested'}"


def _confirmed(record: Record, named: bool) -> list[str]:
    """What fresh seeds show, which had no part in the choice."""
    sentences = []
    for row in leaderboard(record.confirmation):
        where = f"on {row.dataset}, " if named else ""
        fresh = f"With {len(row.seeds)} fresh seed{'s' if len(row.seeds) > 1 else ''}"
        sentence = (
            f"{fresh}, which had no part in the choice, {where}{row.label} reaches {percent(row.test)} %"
        )
        if row.versus_alone:
            sentence += f": {compared(row.versus_alone, BASELINE, len(row.seeds))}"
        sentences.append(f"{sentence}.")
    return sentences


def _seeds_of(record: Record, row: Row) -> int | None:
    """How many seeds the recipe was meant to have; None if the sweep has jobs that left no result."""
    known = {job.seed for job in (*row.recipe.jobs, *row.recipe.lost)}
    swept = {seed_of(result) for result in record.results}
    if SEED not in record.sweep.keys or expected(record) == len(record.results):
        return len(known)
    return len(swept) if len(swept) > 1 else None


def _again(record: Record) -> str:
    """How to get several seeds; a search would draw one of them for each trial."""
    search = record.sweep.config.get("search")
    return "run it again with seed=range(3)" + (", outside the search" if search else "")


def _of_dataset(rows: Sequence[Row], named: bool, of_seeds: int | None, record: Record) -> list[str]:
    best, others = rows[0], rows[1:]
    one, several = f"the recipe {best.label}", f"the best of {len(rows)} recipes by validation, {best.label},"
    subject = (f"on {best.dataset}, " if named else "") + (several if others else one)
    sentences = [f"{subject[0].upper()}{subject[1:]} reaches {_reached(best)}.", *_narrowed_by(best)]
    if best.versus_teacher:
        cost = _cheaper(best)
        sentences.append(f"{_against_teacher(best)}{f', with {cost}' if cost else ''}.")
    sentences += _without_baseline(best, others)
    if len(best.seeds) == 1:
        order = ", not even the order of the recipes" if others else ""
        why = _why_one_seed(of_seeds, record)
        sentences.append(f"One seed cannot show whether a difference is chance{order}; {why}.")
        return sentences
    luck = _luck(best, others, bool(record.confirmations or record.trials))
    return sentences + luck + (_among(best, others) if others else [])


def _reached(row: Row) -> str:
    """A recipe's test accuracy and how it compares with its baseline."""
    over = _seeds(len(row.seeds))
    if len(row.seeds) == 1 and row.test.over_images:
        over += f" (± {points(row.test.over_images)} over test images)"
    reached = f"{percent(row.test)} % on the test split over {over}"
    if row.versus_alone:
        reached += f": {compared(row.versus_alone, BASELINE, len(row.seeds))}"
    return reached


def _why_one_seed(of_seeds: int | None, record: Record) -> str:
    """Why a recipe has one seed: only one was wanted, or only one finished."""
    reasons = {None: "only one of its seeds finished", 1: _again(record)}
    return reasons.get(of_seeds, f"only one of its {of_seeds} seeds finished")


def _narrowed_by(best: Row) -> list[str]:
    """What would narrow the first interval, if more seeds would not."""
    found = best.versus_alone.interval if best.versus_alone else best.test
    if found.over_seeds is None or not found.over_images or found.over_images < 1.5 * found.over_seeds:
        return []
    narrowed = "a larger test split would narrow it, more seeds would not"
    return [f"Most of that uncertainty comes from the test images: {narrowed}."]


def _luck(best: Row, others: Sequence[Row], confirmed: bool) -> list[str]:
    """How much the best recipe may owe to the choice among several."""
    if not best.luck or best.luck < LEAST_LUCK:
        return []
    count = sum(row.recipe.taught for row in (best, *others))
    luck = f"As the best of {count} recipes, it may owe up to about {points(best.luck)} points to lucky seeds"
    return [f"{luck}." if confirmed else f"{luck}; confirm=5 trains it again with fresh seeds."]


def _without_baseline(best: Row, others: Sequence[Row]) -> list[str]:
    """How distillation compares if the best recipe has no baseline: with a recipe of the other kind."""
    if best.versus_alone:
        return []
    if not best.recipe.taught:
        distilled = next((row for row in others if row.recipe.taught and row.versus_best), None)
        if distilled is None:
            return []
        which = f"The best distilled recipe by validation, {distilled.label}, is {_to_best(distilled)}."
        return [f"It is a baseline: no teacher took part. {which}"]
    alone = [row for row in others if not row.recipe.taught]
    if not alone:
        why = "It has no baseline" if any(row.versus_alone for row in others) else "No baseline was trained"
        return [f"{why}, so this sweep cannot show whether distillation helps."]
    same = next((row for row in alone if row.versus_best and row.recipe.same_student(best.recipe)), None)
    return [f"The baseline, {same.label}, is {_to_best(same)}."] if same else []


def _to_best(row: Row) -> str:
    assert row.versus_best is not None
    return compared(row.versus_best, "it", len(row.seeds))


def _among(best: Row, others: Sequence[Row]) -> list[str]:
    """How the best recipe by validation compares with the others on the test split."""
    above = [row for row in others if _claimed(row) and row.versus_best and row.versus_best.interval.mean > 0]
    ties = [row for row in others if not _claimed(row)]
    sentences = []
    if above:
        sentences.append(f"{_labels(above)} above it on the test split, which has no part in the choice.")
    if len(ties) == len(others):
        sentences.append("No other recipe is distinguishable from it.")
    elif ties:
        sentences.append(f"{_labels(ties)} not distinguishable from it.")
    elif not above:
        sentences.append("Every other recipe is below it, by more than chance.")
    return sentences


def _claimed(row: Row) -> bool:
    return row.versus_best is not None and row.versus_best.claimed


def _labels(rows: Sequence[Row]) -> str:
    return f"{_listed([row.label for row in rows])} {'is' if len(rows) == 1 else 'are'}"


def _listed(names: Sequence[str]) -> str:
    shown = "; ".join(names[:NAMED])
    return f"{shown}; and {len(names) - NAMED} more" if len(names) > NAMED else shown


def compared(difference: Difference, other: str, seeds: int) -> str:
    """A difference in points of accuracy, in words as strong as its evidence: 0.61 points above it (…).

    `seeds` is the recipe's number of seeds; the other network may lack some of them.
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
        signed += ", over seeds only: the results do not say which test images were right"
    elif found.without_zero and difference.p is not None and difference.p > LEVEL:
        signed += f", but p = {difference.p:.2g} {adjusted(difference)}"
    return f"not distinguishable from {other} ({signed})"


def _against_teacher(best: Row) -> str:
    """The measured difference, without a claim: "as good as its teacher" has no yes or no."""
    assert best.versus_teacher is not None
    found, count = best.versus_teacher.interval, len(best.versus_teacher.seeds)
    size = f"Its difference from the teacher is {points(found.mean, signed=True)} points"
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
    """What the test images show about the two networks; that says nothing about their recipes."""
    if difference.alone_right is None or not sum(difference.alone_right):
        return ""
    ours, theirs = difference.alone_right
    p = mcnemar(ours, theirs)
    only = f"of the {ours + theirs} test images that only one of these two networks gets right"
    return f" ({only}, it gets {ours}: p = {p:.2g}, exact McNemar test)"


def widths(found: Interval) -> str:
    """Half the interval over each kind of sample alone: ± 0.40 over seeds, ± 1.18 over test images."""
    parts = ((found.over_seeds, "seeds"), (found.over_images, "test images"))
    halves = [f"± {points(half)} over {what}" for half, what in parts if half is not None]
    return ", ".join(halves) if len(halves) == 2 else ""


def adjusted(difference: Difference) -> str:
    """What the p value was adjusted for."""
    if difference.primary:
        return f"as the best of {difference.among} recipes"
    return f"by Holm among {difference.among} comparisons"


def percent(found: Interval) -> str:
    """An accuracy in percent with the half width of its interval: 98.42 ± 0.11."""
    return f"{100 * found.mean:.2f}{spread(found)}"


def spread(found: Interval) -> str:
    """Half the interval, in points; empty if there is one value, or if all are equal."""
    return f" ± {100 * found.half:.2f}" if found.half else ""


def points(difference: float | None, signed: bool = False) -> str:
    """A difference of accuracies in points, with a true minus sign; empty if there is none."""
    if difference is None:
        return ""
    text = f"{100 * difference:{'+' if signed else ''}z.2f}"
    return text.replace("-", "−")


def _cheaper(row: Row) -> str:
    """The student's costs against the teacher's: 7.6 times fewer FLOPs and 1.3 times fewer parameters."""
    ratios = []
    for name, shown in (("flops", "FLOPs"), ("parameters", "parameters")):
        ours, theirs = row.cost.get(name), row.teacher_cost.get(name)
        if not ours or not theirs:
            continue
        ratio = max(ours, theirs) / min(ours, theirs)
        times = f"{ratio:.1f}" if ratio < 100 else f"{ratio:,.0f}"
        ratios.append(
            f"as many {shown}" if ours == theirs
            else f"about as many {shown}" if times == "1.0"
            else f"{times} times {'fewer' if ours < theirs else 'more'} {shown}"
        )  # fmt: skip
    return " and ".join(ratios)


def _seeds(count: int) -> str:
    return "one seed" if count == 1 else f"{count} seeds"


def _missing(record: Record, any_finished: bool) -> list[str]:
    """Which jobs gave no result, and why."""
    jobs = expected(record)
    lost = [job for recipe in recipes(record) for job in recipe.lost]
    sentences = [] if any_finished else [f"None of {_jobs(jobs)} finished."]
    failed = [job for job in lost if job.error not in (INTERRUPTED, PRUNED)]
    if failed:
        reasons = _listed([_failure(job) for job in failed])
        sentences.append(f"{len(failed)} of {_jobs(jobs)} failed: {reasons}.")
    for count, what in (
        (sum(job.error == INTERRUPTED for job in lost), "interrupted"),
        (sum(job.error == PRUNED for job in lost), "pruned by the search"),
        (jobs - len(record.results), "without a result: they have not run, or are still running"),
    ):
        if count:
            sentences.append(f"{count} of {_jobs(jobs)} {'was' if count == 1 else 'were'} {what}.")
    return sentences


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count} jobs"


def _failure(job: JobResult) -> str:
    """A job by its swept values, with the first line of its error."""
    first = (job.error or "").strip().splitlines()[:1]
    why = first[0].rstrip(".") if first else "no reason is known"
    return f"{job.name or 'the job'} ({why[:120]})"
