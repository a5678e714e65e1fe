"""The data set of a job, as a network meets it and by which one knows it again."""

from typing import Any

from typing_extensions import TypedDict

from kdsweep.results.strict import STRICT


class DatasetInfo(TypedDict, total=False):
    """Empty of a job that ended before it had read its data.

    `images` are counts by split; `mean`, `std` are per channel, of pixels in [0, 1]; `background` is what
    transparent images were composed onto, `deep_range` what became 0 and 255 of those with 16 bits; `config`
    is that of the images, whose root is absolute.
    """

    name: str
    fingerprint: str
    test_fingerprint: str
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
