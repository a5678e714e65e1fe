"""The data set of a job: what identifies it, and how networks get its images."""

from collections.abc import Iterable
from typing import Any

from typing_extensions import TypedDict

from kdsweep.results.strict import STRICT


class DatasetInfo(TypedDict, total=False):
    """Empty if the job ended before it had read its data.

    `images` are counts by split, also of those without labels if a network learned from them; `mean`, `std`
    are per channel, of pixels in [0, 1]; `background` is the colour behind transparent images, `deep_range`
    the values that became 0 and 255 in images of 16 bits; `config` has an absolute root.
    """

    name: str
    fingerprint: str
    test_fingerprint: str
    unlabeled_fingerprint: str
    images: dict[str, int]
    classes: list[str]
    shape: list[int]
    mean: list[float]
    std: list[float]
    resize: str
    background: list[int] | None
    deep_range: list[int] | None
    config: dict[str, Any]


DatasetInfo.__pydantic_config__ = STRICT  # type: ignore[attr-defined]


def counted_images(datasets: Iterable[DatasetInfo]) -> str:
    """How many images the splits have: "90 train, 10 val, 500 test, 900 unlabeled"; where jobs differ,
    "900 or 300 unlabeled"."""
    counts: dict[str, dict[int, None]] = {}
    for data in datasets:
        for split, count in data.get("images", {}).items():
            counts.setdefault(split, {})[count] = None
    return ", ".join(
        f"{' or '.join(f'{each:,}' for each in found)} {split}" for split, found in counts.items()
    )
