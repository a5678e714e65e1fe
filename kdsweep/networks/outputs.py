"""A teacher that is only what it said of the images: a file of logits, probabilities or embeddings."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kdsweep.errors import ConfigError
from kdsweep.system.foreign_errors import first_line

SPLITS = ("train", "val", "test", "unlabeled")
NAMES = ("names", "name", "paths", "path", "images", "image", "files", "file", "filename")
CLASSES, SPLIT, INDEX = "classes", "split", "index"
SUFFIXES = (".npz", ".safetensors", ".csv", ".parquet")
MOST_SHOWN = 3


class Table(NamedTuple):
    """The rows of a file: the images' names, and a number for each output or dimension, float32 [N, D].

    `headings` name the columns, if the file does.
    """

    names: list[str]
    values: NDArray[np.float32]
    headings: list[str]


class Outputs(nn.Module):
    """Its tensors are the file's rows; images are looked up by their names.

    With random augmentation it is refused unless `augmented` is "same": it saw the images unchanged.
    """

    values: Tensor  # float32 [N, D]
    names: Tensor  # uint8, UTF-8, a line each
    headings: Tensor

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        image_size: tuple[int, int],
        augmented: Literal["refuse", "same"] = "refuse",
    ) -> None:
        super().__init__()
        if augmented not in ("refuse", "same"):
            raise ConfigError(f"model.augmented={augmented}: allowed: refuse, same")
        self._take(Table([], np.empty((0, 0), np.float32), []))

    def read(self, file: Path) -> None:
        """Take the rows of a file. Raises ConfigError for one of another kind."""
        self._take(read_outputs(file))

    def _take(self, table: Table) -> None:
        self.register_buffer("values", torch.from_numpy(table.values))
        self.register_buffer("names", _packed(table.names))
        self.register_buffer("headings", _packed(table.headings))

    def _load_from_state_dict(self, state: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        for name in ("values", "names", "headings"):
            setattr(self, name, state[f"{prefix}{name}"])

    def forward(self, images: Tensor) -> Tensor:
        raise RuntimeError("a file of outputs does not look at images; look them up by name")

    def covers(self, names: Sequence[str]) -> bool:
        """Whether it has any of these images."""
        return bool(self._by_name(names).keys() & set(names))

    def of(self, names: Sequence[str]) -> Tensor:
        """What it says of the images of these names, [B, D]. Raises ConfigError if it lacks some."""
        rows = self._by_name(names)
        missing = [name for name in names if name not in rows]
        if missing:
            shown = ", ".join(missing[:MOST_SHOWN]) + (", …" if len(missing) > MOST_SHOWN else "")
            example = next(iter(rows), "nothing")
            raise ConfigError(
                f"says nothing of {len(missing):,} of {len(names):,} images: {shown} (its first is {example})"
            )
        return self.values[torch.tensor([rows[name] for name in names])]

    def columns(self, classes: Sequence[str]) -> list[int] | None:
        """The columns of the classes if the headings name them; None if they name nothing.

        Raises ConfigError if they name other things.
        """
        headings = _unpacked(self.headings)
        if not headings or headings == [str(number) for number in range(len(headings))]:
            return None
        if missing := [name for name in classes if name not in headings]:
            raise ConfigError(
                f"has no column {missing[0]}; it has {', '.join(headings[:10])}; name the class of each "
                "column, in order, in teacher.classes"
            )
        return [headings.index(name) for name in classes]

    def _by_name(self, wanted: Sequence[str]) -> dict[str, int]:
        """The rows by name; names that begin elsewhere, such as absolute paths, are cut to those wanted."""
        names = _unpacked(self.names)
        rows = {name: row for row, name in enumerate(names)}
        for name in wanted:
            if name in rows:
                return rows
        for name in wanted:
            ends = [each for each in names if each.endswith(f"/{name}")]
            if ends:
                start = ends[0][: -len(name)]
                return {each.removeprefix(start): row for each, row in rows.items() if each.startswith(start)}
        return rows


def read_outputs(file: Path) -> Table:
    """The rows of a file of outputs. Raises ConfigError for a file of another kind."""
    if file.suffix not in SUFFIXES:
        raise ConfigError(f"weights={file}: no file of outputs; allowed: {', '.join(SUFFIXES)}")
    try:
        found = _of_arrays(file) if file.suffix in (".npz", ".safetensors") else _of_columns(file)
    except ConfigError as error:
        raise ConfigError(f"weights={file}: {error}") from error
    except Exception as error:  # each reader raises types of its own
        raise ConfigError(f"weights={file}: cannot be read ({first_line(error)})") from error
    return _checked(file, found)


def _checked(file: Path, table: Table) -> Table:
    names, values = [_plain(name) for name in table.names], table.values
    if not names:
        raise ConfigError(f"weights={file}: has no rows")
    if len(names) != len(values):
        raise ConfigError(f"weights={file}: has {len(names):,} names of images and {len(values):,} rows")
    if len(set(names)) < len(names):
        twice = next(name for number, name in enumerate(names) if name in names[:number])
        raise ConfigError(f"weights={file}: names {twice} twice")
    wrong = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(wrong):
        raise ConfigError(f"weights={file}: says NaN or infinity of {names[wrong[0]]}")
    return Table(names, np.ascontiguousarray(values, np.float32), table.headings)


def _of_arrays(file: Path) -> Table:
    """One array of outputs beside the names of its images, or one for each split, in its images' order."""
    arrays, said = _arrays(file)
    values = {
        name: each
        for name, each in arrays.items()
        if each.ndim == 2 and np.issubdtype(each.dtype, np.floating)
    }
    names = next((said[name] for name in NAMES if name in said), None)
    headings = said.get(CLASSES, [])
    if names is not None and len(values) == 1:
        return Table(names, next(iter(values.values())), headings)
    if names is None and values and values.keys() <= set(SPLITS):
        numbered = [f"{split}/{row}" for split, each in values.items() for row in range(len(each))]
        return Table(numbered, np.concatenate(list(values.values())), headings)
    found = ", ".join(f"{name} {list(each.shape)}" for name, each in arrays.items()) or "nothing"
    raise ConfigError(
        f"holds {found}; must hold one array [images, outputs] and the names of its images ({NAMES[0]}), or "
        f"an array for each split ({', '.join(SPLITS)})"
    )


def _arrays(file: Path) -> tuple[dict[str, NDArray[Any]], dict[str, list[str]]]:
    """The arrays of a file, and its lists of words."""
    if file.suffix == ".npz":
        with np.load(file, allow_pickle=False) as opened:
            arrays = {name: opened[name] for name in opened.files}
        words = {name: each for name, each in arrays.items() if each.dtype.kind in "US"}
        numbers = {name: each for name, each in arrays.items() if name not in words}
        return numbers, {name: [str(word) for word in each.astype(str)] for name, each in words.items()}
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        arrays = {name: opened.get_tensor(name).float().numpy() for name in opened.keys()}  # noqa: SIM118
        metadata = opened.metadata() or {}
    lists = {name: json.loads(text) for name, text in metadata.items() if name in (*NAMES, CLASSES)}
    return arrays, {name: list(map(str, each)) for name, each in lists.items()}


def _of_columns(file: Path) -> Table:
    """A row for each image: its name, or its split and index in it; then a column for each output."""
    import pandas

    frame = pandas.read_csv(file) if file.suffix == ".csv" else pandas.read_parquet(file)
    frame.columns = [str(name) for name in frame.columns]
    own = next((name for name in NAMES if name in frame.columns), None)
    if own is not None:
        names = [str(name) for name in frame.pop(own)]
    elif {SPLIT, INDEX} <= set(frame.columns):
        pairs = zip(frame.pop(SPLIT), frame.pop(INDEX), strict=True)
        names = [f"{split}/{int(index)}" for split, index in pairs]
    else:
        raise ConfigError(
            f"has the columns {', '.join(frame.columns[:10])}; must have {NAMES[5]} for the images' names, "
            f"or {SPLIT} and {INDEX}"
        )
    if frame.empty:
        return Table([], np.empty((0, 0), np.float32), [])
    if words := [name for name in frame.columns if not pandas.api.types.is_numeric_dtype(frame[name])]:
        raise ConfigError(f"its column {words[0]} holds no numbers; leave only the outputs beside the names")
    return Table(names, frame.to_numpy(np.float32), list(frame.columns))


def _plain(name: str) -> str:
    return name.replace("\\", "/").removeprefix("./")


def _packed(words: Iterable[str]) -> Tensor:
    return torch.frombuffer(bytearray("\n".join(words).encode() or b"\0"), dtype=torch.uint8)


def _unpacked(content: Tensor) -> list[str]:
    text = content.cpu().numpy().tobytes().decode()
    return [] if text == "\0" else text.split("\n")
