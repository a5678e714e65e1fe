"""The image files of a data set with a CSV file: their classes and splits."""

import logging
from dataclasses import dataclass
from pathlib import Path, PurePath

from kdsweep.config import ImageCsv
from kdsweep.data.files.folders import ImageFile, PassedOver, files_below, is_image, shown, some
from kdsweep.data.files.names import SPLIT_OF, SPLITS, printable
from kdsweep.data.files.sniff import Finder, Row, Table, read_table
from kdsweep.errors import DataError
from kdsweep.system.progress import once

log = logging.getLogger(__name__)

ONE, ZERO = ("1", "1.0", "true"), ("0", "0.0", "false")  # the values in class columns


@dataclass(frozen=True)
class _Columns:
    image: int
    labels: list[int]  # one column with labels, or one per class
    partition: int | None


def list_table(recipe: ImageCsv) -> list[ImageFile]:
    """The images that the table names, each once.

    Raises DataError if the table is missing, contradicts itself or names missing files.
    """
    root = Path(recipe.root).expanduser()
    file, folder = root / recipe.csv, root / recipe.images
    if not file.is_file() or not folder.is_dir():
        raise DataError(
            f"dataset.root={recipe.root}: the table or the images are missing\n"
            f"Expected in {root.absolute()}: the file {recipe.csv} (dataset.csv) "
            f"and the folder {recipe.images} (dataset.images)"
        )
    table = read_table(file, recipe.image_column)
    columns = _columns(recipe, table)
    if not table.rows:
        raise DataError(f"{file}: has no rows")
    named = [_named(table, columns, row) for row in table.rows]
    _check_partitions(recipe, file, columns, named)
    if columns.partition is None:
        _warn_of_partitions(table, columns)
    files = _found(recipe, root, file, named)
    _check_agreement(file, files)
    return list(dict.fromkeys(files))


def _columns(recipe: ImageCsv, table: Table) -> _Columns:
    """The places of the columns. Raises DataError if a column is missing."""

    def place(name: str, key: str) -> int:
        found = table.column(name, key)
        if found is None:
            raise table.missing(name, key)
        return found

    image = place(recipe.image_column, "image_column")
    named = recipe.partition_column
    partition = None if named is None else place(named, "partition_column")
    if not isinstance(recipe.label_column, str):
        labels = [place(name, "label_column") for name in recipe.label_column]
    elif (label := table.column(recipe.label_column, "label_column")) is not None:
        labels = [label]
    else:
        labels = _of_ones_and_zeros(table, {image, partition})
        if len(labels) < 2:
            raise table.missing(recipe.label_column, "label_column")
        named = ", ".join(table.header[i] for i in labels)
        lacking = f"has no column {recipe.label_column} (dataset.label_column)"
        once(log.warning, f"{table.file}: {lacking}; the columns of 0 and 1 serve as classes: {named}")
    return _Columns(image, labels, partition)


def _of_ones_and_zeros(table: Table, others: set[int | None]) -> list[int]:
    return [
        i
        for i in range(len(table.header))
        if i not in others and table.rows and all(row.cells[i].casefold() in ONE + ZERO for row in table.rows)
    ]


def _named(table: Table, columns: _Columns, row: Row) -> ImageFile:
    """A row's image by its name in the table, its label, and its split."""
    label = row.cells[columns.labels[0]] if len(columns.labels) == 1 else _hot(table, columns, row)
    image = row.cells[columns.image]
    partition = None if columns.partition is None else row.cells[columns.partition]
    cells = {columns.image: image, columns.labels[0]: label, columns.partition: partition}
    if empty := [table.header[i] for i, cell in cells.items() if i is not None and not cell]:
        raise DataError(f"{table.file}, line {row.line}: no value in {', '.join(empty)}")
    if broken := next((cell for cell in cells.values() if cell and len(cell.splitlines()) > 1), None):
        raise DataError(
            f"{table.file}, line {row.line}: a value has several lines ({broken.splitlines()[0]}…); perhaps "
            "a quote before it is not closed"
        )
    if partition is not None and partition.casefold() not in SPLIT_OF:
        allowed = ", ".join(name for names in SPLITS.values() for name in names)
        raise DataError(
            f"{table.file}, line {row.line}: {table.header[columns.partition or 0]} is {partition}; "
            f"allowed: {allowed} (dataset.partition_column=null draws the splits)"
        )
    return ImageFile(image, printable(label), partition and SPLIT_OF[partition.casefold()])


def _hot(table: Table, columns: _Columns, row: Row) -> str:
    """The one class whose column holds 1."""
    where = f"{table.file}, line {row.line}"
    for i in columns.labels:
        if row.cells[i].casefold() not in (*ONE, *ZERO, ""):
            raise DataError(
                f"{where}: {table.header[i]} is {row.cells[i]}, but class columns must be 0 or 1; "
                "dataset.label_column names the column of labels, or a list of class columns"
            )
    hot = [table.header[i] for i in columns.labels if row.cells[i].casefold() in ONE]
    if len(hot) != 1:
        none = f"none of {', '.join(table.header[i] for i in columns.labels)}"
        raise DataError(
            f"{where}: 1 is in {' and '.join(hot) or none}, but an image has one class; "
            "dataset.label_column=[…] names the class columns"
        )
    return hot[0]


def _check_partitions(recipe: ImageCsv, file: Path, columns: _Columns, rows: list[ImageFile]) -> None:
    found = {row.split for row in rows}
    missing = [split for split in ("train", "test") if split not in found]
    if columns.partition is not None and missing:
        raise DataError(
            f"{file}: {recipe.partition_column} has no row with {' and '.join(missing)} "
            "(dataset.partition_column=null draws the splits)"
        )


def _warn_of_partitions(table: Table, columns: _Columns) -> None:
    """Warn of a column with splits that the config does not name."""
    for i, name in enumerate(table.header):
        values = {row.cells[i].casefold() for row in table.rows}
        if i not in (columns.image, *columns.labels) and values <= SPLIT_OF.keys():
            unused = f"the column {name} ({', '.join(sorted(values))}) is not used"
            how = f"splits are drawn (dataset.partition_column={name} uses it)"
            once(log.warning, f"{table.file}: {unused}: {how}")


def _found(recipe: ImageCsv, root: Path, file: Path, rows: list[ImageFile]) -> list[ImageFile]:
    """The rows with the paths of their files, which must exist; a warning names files without a row."""
    passed = PassedOver()
    files = [PurePath(recipe.images, path).as_posix() for path in files_below(root / recipe.images, passed)]
    passed.warn(root / recipe.images)
    finder = Finder(root, recipe.images, files)
    paths = {name: finder.find(name) for name in dict.fromkeys(row.path for row in rows)}
    missing = sorted(PurePath(recipe.images, name).as_posix() for name, found in paths.items() if not found)
    if missing:
        raise DataError(
            f"{file}: {len(missing):,} of its {len(paths):,} images are missing\n{shown(missing)}\n"
            f"Expected in {root / recipe.images} (dataset.images), with or without extension"
        )
    if unclear := [
        f"{name}: {' or '.join(sorted(found))}" for name, found in paths.items() if len(found) > 1
    ]:
        raise DataError(
            f"{file}: {len(unclear):,} of its {len(paths):,} images fit several files; write their "
            f"extensions\n{shown(unclear)}"
        )
    extra = sorted({path for path in files if is_image(path)}.difference(*paths.values()))
    if recipe.unlabeled:
        here, apart = root.resolve(), Path(recipe.unlabeled).expanduser().resolve()
        extra = [path for path in extra if not (here / path).is_relative_to(apart)]
    if extra:
        where = f"{len(extra):,} images in {root / recipe.images}"
        once(log.warning, f"{file}: {where} have no row and are left out: {some(extra)}")
    return [ImageFile(paths[row.path][0], row.label, row.split) for row in rows]


def _check_agreement(file: Path, rows: list[ImageFile]) -> None:
    """Refuse an image with rows that differ."""
    first: dict[str, ImageFile] = {}
    differing: dict[str, str] = {}
    for row in rows:
        other = first.setdefault(row.path, row)
        if row != other:
            first_says, then = (f"{each.label} {each.split or ''}".strip() for each in (other, row))
            differing.setdefault(row.path, f"{row.path}: {first_says}, then {then}")
    if differing:
        raise DataError(
            f"{file}: {len(differing):,} images have rows that differ in label or partition; "
            f"keep one row for each\n{shown(list(differing.values()))}"
        )
