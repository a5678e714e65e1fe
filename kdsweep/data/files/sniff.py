"""CSV files as spreadsheets and people write them: encodings, separators, headers, names of files."""

import codecs
import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from posixpath import normpath

from kdsweep.data.files.folders import is_image
from kdsweep.data.files.names import meant
from kdsweep.errors import DataError

SEPARATORS = (",", ";", "\t", "|")
# the longer marks first: UTF-32's begins like UTF-16's
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


@dataclass(frozen=True)
class Row:
    line: int  # the row's first line in the file
    cells: list[str]


@dataclass(frozen=True)
class Table:
    """A CSV file's header and rows; cells have no blanks around them, and each row has a cell per column."""

    file: Path
    header: list[str]
    rows: list[Row]

    def column(self, name: str, key: str) -> int | None:
        """The place of the column that `dataset.<key>` names, in any case; None if it is missing.

        Raises DataError if there are several.
        """
        for same in (str, str.casefold):
            found = [i for i, head in enumerate(self.header) if same(head) == same(name)]
            if len(found) > 1:
                raise DataError(
                    f"dataset.{key}={name}: {self.file} has {len(found)} such columns; rename all but one"
                )
            if found:
                return found[0]
        return next((self.header.index(head) for head in meant(name, self.header)), None)

    def missing(self, name: str, key: str) -> DataError:
        """The error for a missing column."""
        columns = ", ".join(self.header) or "none"
        message = f"dataset.{key}={name}: {self.file} has no such column; its columns: {columns}"
        if any(is_image(head) for head in self.header):
            message += "\nIts first line names an image: put a line with the names of the columns above it"
        elif len(self.header) == 1:
            message += "\nColumns are separated by commas, semicolons, tabs or |"
        return DataError(message)


def read_table(file: Path, wanted: str) -> Table:
    """The table in a CSV file, with a separator that gives the column `wanted`, if any does.

    Raises DataError, with the line, if the file is not a table.
    """
    text = _text(file)
    if text.startswith("sep="):  # Excel writes this
        text = "\n" + text.partition("\n")[2]  # the empty line keeps the numbers of those after it
    headers = {separator: _header(text, separator) for separator in SEPARATORS}
    having = [
        separator for separator, header in headers.items() if wanted.casefold() in map(str.casefold, header)
    ]
    separator = having[0] if having else max(SEPARATORS, key=lambda each: len(headers[each]))
    return _parsed(file, text, separator)


def _text(file: Path) -> str:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror})") from error
    encoding = next((MARKS[mark] for mark in MARKS if content.startswith(mark)), "utf-8-sig")
    if encoding == "utf-8-sig" and b"\0" in content[:2]:  # in UTF-16 without a mark every other byte is 0
        encoding = "utf-16-be" if content[0] == 0 else "utf-16-le"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        name = encoding.removesuffix("-sig").upper()
        raise DataError(
            f"{file}, line {line}: is not {name} ({error.reason}); save the table as UTF-8"
        ) from error


def _header(text: str, separator: str) -> list[str]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        return next(([_clean(cell) for cell in row] for row in reader if any(map(_clean, row))), [])
    except csv.Error:
        return []


def _parsed(file: Path, text: str, separator: str) -> Table:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    header: list[str] = []
    rows: list[Row] = []
    line = 1
    try:
        for raw in reader:
            first, line = line, reader.line_num + 1
            cells = [_clean(cell) for cell in raw]
            if not any(cells):  # spreadsheets leave empty lines
                continue
            if not header:
                header = cells
                continue
            if any(cells[len(header) :]):
                raise DataError(
                    f"{file}, line {first}: {len(cells)} values for {len(header)} columns; a value "
                    f"that holds {separator!r} needs quotes around it"
                )
            cells = cells[: len(header)]
            rows.append(Row(first, cells + [""] * (len(header) - len(cells))))
    except csv.Error as error:
        raise DataError(f"{file}, line {line}: cannot be read as CSV ({error})") from error
    while header and not header[-1] and not any(row.cells[len(header) - 1] for row in rows):
        header.pop()  # each line ends with a separator
    return Table(file, header, rows)


def _clean(cell: str) -> str:
    return cell.strip(" \t\r\n\f\v\ufeff\xa0")


class Finder:
    """Finds the files that a table names, perhaps with other slashes, without extension, below the root."""

    def __init__(self, root: Path, images: str, files: Sequence[str]) -> None:
        """`files` are those below the folder `images` in `root`, as paths below `root`."""
        self.root, self.images, self.files = root, images, set(files)
        self.by_stem: dict[str, list[str]] = {}
        for path in files:
            if is_image(path):
                self.by_stem.setdefault(PurePath(path).with_suffix("").as_posix(), []).append(path)
        self.folded: dict[str, list[str]] = {}
        for path in files:
            self.folded.setdefault(path.casefold(), []).append(path)

    def find(self, name: str) -> list[str]:
        """The files that a name may mean: one if it is clear, none if no file fits."""
        names = dict.fromkeys((name, name.replace("\\", "/")))
        paths = [normpath(path) for each in names for path in (f"{self.images}/{each}", each)]
        for path in paths:
            if path in self.files or (self.root / path).is_file():
                return [path]
        for path in paths:
            if found := self.by_stem.get(path) or self.folded.get(path.casefold()):
                return found
        return []
