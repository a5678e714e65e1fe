"""Tables that fit: where a terminal is too narrow columns are left out and named, none is cut."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True)
class Column:
    """A column by its head. Of a too wide table the columns with the lowest `worth` go first, together with
    those of the same worth; those without stay. `wraps` if its cells are text that may take several lines."""

    head: str
    right: bool = True
    worth: int | None = None
    wraps: bool = False
    style: str = ""


@dataclass
class Fitting:
    """A table to be printed on any console; `elsewhere` is where one finds the columns that are left out."""

    columns: Sequence[Column]
    elsewhere: str = "a wider terminal"
    rows: list[tuple[Sequence[str], str | None]] = field(default_factory=list)

    def add(self, cells: Sequence[str], style: str | None = None) -> None:
        self.rows.append((cells, style))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        shown = list(range(len(self.columns)))
        while self._width(shown) > options.max_width:
            worths = [worth for i in shown if (worth := self.columns[i].worth) is not None]
            if not worths:
                break
            shown = [i for i in shown if self.columns[i].worth != min(worths)]
        yield self._table(shown, narrow=self._width(shown) > options.max_width)
        left = [column.head for i, column in enumerate(self.columns) if i not in shown and column.head]
        if left:
            yield Text(f"more columns in {self.elsewhere}: {', '.join(left)}", style="dim")

    def _width(self, shown: Sequence[int]) -> int:
        """What the columns at these places need, in characters of a terminal."""
        widths = []
        for i in shown:
            texts = [self.columns[i].head, *(cells[i] for cells, _ in self.rows)]
            if self.columns[i].wraps:
                texts = [word for text in texts for word in text.split()]
            widths.append(max(map(cell_len, texts), default=0))
        return sum(widths) + 2 * (len(widths) - 1)

    def _table(self, shown: Sequence[int], narrow: bool = False) -> Table:
        """With the columns at these places; a `narrow` one breaks heads at dots, or where it must."""
        table = Table(box=None, header_style="bold", pad_edge=False)
        for i in shown:
            column = self.columns[i]
            table.add_column(
                Text(column.head.replace(".", ".\n") if narrow else column.head),  # no markup in it
                justify="right" if column.right else "left",
                style=column.style,
                no_wrap=not (narrow or column.wraps),
                overflow="fold",
            )
        for cells, style in self.rows:
            table.add_row(*(Text(cells[i]) for i in shown), style=style)
        return table
