"""Which image files there are, of which class and in which split, when a CSV file tells."""

import csv
import logging
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from kdsweep.config import ImageCsv
from kdsweep.data.listing import ImageFile, files_below, is_image, shown
from kdsweep.errors import DataError

log = logging.getLogger(__name__)

PARTITIONS = ("train", "val", "test")


def list_table(recipe: ImageCsv) -> list[ImageFile]:
    """The images that the table names, each once.

    Raises DataError for a table that is missing, contradicts itself or names files that are not there.
    """
    root = Path(recipe.root).expanduser()
    table, folder = root / recipe.csv, root / recipe.images
    if not table.is_file() or not folder.is_dir():
        raise DataError(
            f"dataset.root={recipe.root}: lacks the table or the images\nExpected in {root.absolute()}: "
            f"the file {recipe.csv} (dataset.csv) and the folder {recipe.images} (dataset.images)"
        )
    rows = list(_rows(recipe, table))
    if not rows:
        raise DataError(f"{table}: has no rows")
    _check_partitions(table, recipe, rows)
    _check_agreement(table, rows)
    _check_files(table, root, recipe.images, rows)
    return list(dict.fromkeys(rows))


def _rows(recipe: ImageCsv, table: Path) -> Iterator[ImageFile]:
    """A row's image, label and partition; of what is empty or not CSV, DataError names the line."""
    columns = {"image_column": recipe.image_column, "label_column": recipe.label_column}
    if recipe.partition_column is not None:
        columns["partition_column"] = recipe.partition_column
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            there = reader.fieldnames or ["none"]
            for key, column in columns.items():
                if column not in there:
                    raise DataError(
                        f"dataset.{key}={column}: {table} has no such column; there: {', '.join(there)}"
                    )
            for row in reader:
                values = {key: (row[column] or "").strip() for key, column in columns.items()}
                if empty := [columns[key] for key, value in values.items() if not value]:
                    raise DataError(f"{table}, line {reader.line_num}: nothing in {', '.join(empty)}")
                path = PurePosixPath(recipe.images) / values["image_column"]
                partition = values.get("partition_column")
                yield ImageFile(str(path), values["label_column"], partition and partition.lower())
    except UnicodeDecodeError as error:
        raise DataError(f"{table}: is not UTF-8 ({error.reason}); save it as such") from error
    except (csv.Error, OSError) as error:
        raise DataError(f"{table}: cannot be read as CSV ({error})") from error


def _check_partitions(table: Path, recipe: ImageCsv, rows: list[ImageFile]) -> None:
    if recipe.partition_column is None:
        return
    found = {row.split or "" for row in rows}
    if unknown := sorted(found.difference(PARTITIONS)):
        raise DataError(
            f"{table}: {recipe.partition_column} holds {', '.join(unknown[:10])}; "
            f"allowed: {', '.join(PARTITIONS)} (dataset.partition_column=null draws the splits)"
        )
    if missing := [split for split in ("train", "test") if split not in found]:
        raise DataError(
            f"{table}: {recipe.partition_column} has no row of {' and '.join(missing)} "
            "(dataset.partition_column=null draws the splits)"
        )


def _check_agreement(table: Path, rows: list[ImageFile]) -> None:
    """An image may have several rows, if they say the same."""
    first: dict[str, ImageFile] = {}
    differing: dict[str, str] = {}
    for row in rows:
        other = first.setdefault(row.path, row)
        if row != other:
            told = [f"{told.label} {told.split or ''}".strip() for told in (other, row)]
            differing.setdefault(row.path, f"{row.path}: {told[0]}, then {told[1]}")
    if differing:
        raise DataError(
            f"{table}: {len(differing):,} images have rows that differ in label or partition; "
            f"leave one row for each\n{shown(list(differing.values()))}"
        )


def _check_files(table: Path, root: Path, images: str, rows: list[ImageFile]) -> None:
    """Every row needs its file; files without a row are only told of."""
    there = {str(PurePosixPath(images) / path) for path in files_below(root / images)}
    named = {row.path for row in rows}
    if missing := sorted(path for path in named - there if not (root / path).is_file()):
        raise DataError(
            f"{table}: {len(missing):,} of the {len(named):,} images in it are not there\n{shown(missing)}"
        )
    if extra := sum(map(is_image, there - named)):
        log.warning("%s: %s images in %s have no row; they are left out", table, f"{extra:,}", root / images)
