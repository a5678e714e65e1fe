"""Tables that fit: a narrow terminal leaves columns out and names them, and cuts none."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True)
class Column:
    """A column by its head.

    A table that is too wide leaves out the columns of the lowest `worth` first, and never those without.
    `wraps` allows text on several lines.
    """

    head: str
    right: bool = True
    worth: int | None = None
    wraps: bool = False
    style: str = ""


@dataclass
class Fitting:
    """A table for any console; `elsewhere` says where to find the columns that it leaves out."""

    columns: Sequence[Column]
    elsewhere: str = "a wider terminal"
    rows: list[tuple[Sequence[str], str | None]] = field(default_factory=list)

    def add(self, cells: Sequence[str], style: str | None = None) -> None:
        self.rows.append((cells, style))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        shown = list(range(len(self.columns)))
        heads = [column.head for column in self.columns]
        if self._width(shown, heads) > options.max_width:
            heads = [each.head if each.wraps else each.head.replace(".", ".\n") for each in self.columns]
        while self._width(shown, heads) > options.max_width:
            worths = [worth for i in shown if (worth := self.columns[i].worth) is not None]
            if not worths:
                break  # text that is still too long breaks anywhere
            shown = [i for i in shown if self.columns[i].worth != min(worths)]
        yield self._table(shown, heads, self._width(shown, heads) <= options.max_width)
        left = [column.head for i, column in enumerate(self.columns) if i not in shown and column.head]
        if left:
            yield Text(f"more columns in {self.elsewhere}: {'; '.join(left)}", style="dim")

    def _width(self, shown: Sequence[int], heads: Sequence[str]) -> int:
        """The width of the columns at these places, in characters."""
        widths = []
        for i in shown:
            texts = [*heads[i].splitlines(), *(cells[i] for cells, _ in self.rows)]
            if self.columns[i].wraps:
                texts = [word for text in texts for word in text.split()]
            widths.append(max(map(cell_len, texts), default=0))
        return sum(widths) + 2 * (len(widths) - 1)

    def _table(self, shown: Sequence[int], heads: Sequence[str], fits: bool) -> Table:
        table = Table(box=None, header_style="bold", pad_edge=False)
        for i in shown:
            column = self.columns[i]
            table.add_column(
                Text(heads[i]),  # Text ignores markup
                justify="right" if column.right else "left",
                style=column.style,
                no_wrap=fits and not column.wraps,
                overflow="fold",
            )
        for cells, style in self.rows:
            table.add_row(*(Text(cells[i]) for i in shown), style=style)
        return table
