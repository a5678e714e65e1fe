"""The note of a sweep in MLflow's pages: the answer and the top of the leaderboard, in Markdown."""

from collections.abc import Sequence

from kdsweep.analysis.claims import Difference
from kdsweep.analysis.conclusions import answer, percent, points, spread
from kdsweep.analysis.leaderboard import Row
from kdsweep.results.record import Record

NOTE_ROWS = 20
NOTE_LENGTH = 7800  # a tag of MLflow has 8000 letters, and a picture's link comes after the note


def note(record: Record, rows: Sequence[Row]) -> str:
    """The note of a sweep, with as many rows of the leaderboard as fit."""
    sentences = "\n\n".join(_escaped(sentence) for sentence in answer(record, rows))
    report = "**report.html**, among the artifacts, has every recipe, the charts and the origin of it all."
    for count in range(min(len(rows), NOTE_ROWS), -1, -1):
        more = len(rows) - count
        rest = f"\n\nand {more} more" if more and count else ""
        text = "\n\n".join(filter(None, [sentences, _markdown(rows[:count]) + rest, report]))
        if len(text) <= NOTE_LENGTH:
            return text
    return report


def _markdown(rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    validated = any(row.val for row in rows)
    head = ["recipe", "seeds", *(["val %"] if validated else []), "test %", "vs baseline", "vs teacher"]
    cells = [
        [
            _escaped(row.label),
            str(len(row.seeds)),
            *([f"{100 * row.val.mean:.2f}" if row.val else ""] if validated else []),
            percent(row.test),
            short(row.versus_alone),
            short(row.versus_teacher),
        ]
        for row in rows
    ]
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *cells))


def short(difference: Difference | None) -> str:
    """A difference for a table: +0.61 ± 0.21, with a star if it is more than chance."""
    if difference is None:
        return ""
    mean = points(difference.interval.mean, signed=True)
    return f"{mean}{spread(difference.interval)}{' *' if difference.claimed else ''}"


def _escaped(text: str) -> str:
    """Text that Markdown and its tables show as it is."""
    return "".join(f"\\{sign}" if sign in "\\`*_{}[]<>#|" else sign for sign in text)
