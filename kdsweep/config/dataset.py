"""The section `dataset`."""

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from kdsweep.config.section import OF_SWEEP, Range, Section


class Augment(Section):
    """Random changes of training images; by default there are none."""

    crop_padding: int = Field(default=0, ge=0, le=1000)
    """pixels of zero padding from which a crop of the old size is drawn"""
    horizontal_flip: bool = False
    """left to right, for an image in two"""
    vertical_flip: bool = False
    """top to bottom, for an image in two"""
    rotation: float = Field(default=0, ge=0, le=180)
    """degrees, to either side, at most"""
    shift: float = Field(default=0, ge=0, lt=1)
    """share of height and of width, to either side, at most"""
    zoom: Range = (1, 1)
    """share of the image's side that is shown, smallest and largest; below 1 enlarges"""
    independent_zoom: bool = False
    """height and width each with a zoom of its own, as Keras draws them; false: one for both"""
    brightness: Range = (1, 1)
    """factor of the pixels, smallest and largest"""

    @property
    def random(self) -> bool:
        """Whether an image looks different from epoch to epoch."""
        return self.effective() != Augment().effective()

    def effective(self) -> dict[str, Any]:
        """What is used of it, so that two recipes that train alike are one."""
        apart = self.independent_zoom and self.zoom != (1, 1)
        return self.model_dump(exclude=set() if apart else {"independent_zoom"})


def _as_written(value: Any) -> Any:
    """A name that YAML takes for a number or for a truth value."""
    return str(value).lower() if type(value) in (bool, int, float) else value


def _names(value: Any) -> tuple[str, ...] | None:
    """A list of two names or more, in which null too is one; None if it is none."""
    listed = value if isinstance(value, list | tuple) else ()
    names = tuple("null" if each is None else _as_written(each) for each in listed)
    return names if len(names) > 1 and all(isinstance(name, str) and name for name in names) else None


def _classes(value: Any) -> Any:
    if value is not None and not _names(value):
        raise PydanticCustomError("classes", "must be a list of two classes or more, or null")
    return _names(value)


def _columns(value: Any) -> Any:
    column = _names(value) or _as_written(value)
    if not isinstance(column, str | tuple):
        raise PydanticCustomError("columns", "must be a column, or a list of two or more with a class each")
    return column


COLOURS = {"white": (255, 255, 255), "grey": (128, 128, 128), "black": (0, 0, 0)}


def _colour(value: Any) -> Any:
    """A colour by name, by six hexadecimal digits, or by its channels."""
    if isinstance(value, str) and re.fullmatch("#?[0-9a-fA-F]{6}", value):
        value = tuple(bytes.fromhex(value.removeprefix("#")))
    elif isinstance(value, str):
        value = COLOURS.get(value)
    channels = value if isinstance(value, list | tuple) else ()
    if len(channels) != 3 or not all(type(each) is int and 0 <= each <= 255 for each in channels):
        allowed = f"allowed: {', '.join(COLOURS)}, [red, green, blue] of 0 to 255 each"
        raise PydanticCustomError("colour", allowed)
    return tuple(channels)


_COLOUR = WithJsonSchema({"enum": [*COLOURS, "[red, green, blue]"]})

Name = Annotated[str, BeforeValidator(_as_written)]
Named = Annotated[str, BeforeValidator(_as_written), Field(min_length=1)]


class _Dataset(Section):
    name: Named
    """how tables and runs call it"""
    root: str = Field(json_schema_extra=OF_SWEEP)
    """folder of the data set's files, downloaded into it where they can be and are missing"""
    train_limit: int | None = Field(ge=1)
    """take the first N training images, before the validation split; null: all"""
    test_limit: int | None = Field(ge=1)
    """take the first N test images; null: all"""
    val_fraction: float = Field(gt=0, lt=1)
    """share of the training images, per class, that selects and is never trained on"""
    split_seed: int = Field(ge=0, lt=2**32)
    """draws the splits; not `seed`, so that seeds stay comparable"""
    positive_class: Name | None
    """of two classes, the one that F1 and ROC AUC look for; null: the second"""
    normalize: Literal["unit", "standard"]
    """unit: pixels in [0, 1]; standard: then minus mean, by deviation of the training split"""
    augment: Augment
    """random changes of training images alone, drawn for each image anew"""


class ArrayDataset(_Dataset):
    """A data set whose files hold arrays of pixels."""

    source: Literal["digits", "mnist", "fashion_mnist", "cifar10", "cifar100"]
    """digits come with scikit-learn; mnist, fashion_mnist, cifar10, cifar100 are downloaded"""


class ImageDataset(_Dataset):
    """A data set of image files, decoded and resized once."""

    image_size: int = Field(ge=1, le=4096)
    """side in pixels to which every image is brought, once; the decoded images are kept in the store"""
    resize: Literal["squash", "crop"]
    """squash: the whole image, its proportions changed; crop: the middle square"""
    on_corrupt: Literal["refuse", "skip"]
    """refuse: stop and list the unreadable images; skip: go on without them"""
    duplicates: Literal["warn", "refuse", "drop"] = "warn"
    """images in two splits or with two labels: warn, refuse, or drop all but one, of two labels all"""
    background: Annotated[tuple[int, int, int], BeforeValidator(_colour), _COLOUR] = COLOURS["white"]
    """what transparent images are composed onto; channels from 0 to 255"""
    classes: Annotated[tuple[str, ...] | None, BeforeValidator(_classes)] = None
    """which classes, in the order of the network's outputs; null: all, by name, numbers by value"""
    test_fraction: float = Field(gt=0, lt=1)
    """share of all images, per class, drawn for testing where the files tell no splits"""


class ImageFolder(ImageDataset):
    """A folder per class, below folders of the splits or alone."""

    source: Literal["image_folder"]
    """image_folder: a folder per class"""
    train_folder: Named
    """where root has this folder, or training, it has one per split; else the folders of the classes"""
    val_folder: Named
    """or valid, validation, dev; if root has none such, val_fraction is drawn from the training images"""
    test_folder: Named
    """the folder of the test split, in root"""


class ImageCsv(ImageDataset):
    """A folder of images and a table of their labels."""

    source: Literal["image_csv"]
    """image_csv: a table of labels"""
    csv: Named
    """the table, in root"""
    images: Named
    """the folder of images, in root"""
    image_column: Name
    """file names, relative to `images`"""
    label_column: Annotated[str | tuple[str, ...], BeforeValidator(_columns)]
    """names of classes; or a list of columns, a class each, with 1 for the one that an image is of"""
    partition_column: Name | None
    """train, test and perhaps val; null: test_fraction and val_fraction are drawn"""


Dataset = Annotated[ArrayDataset | ImageFolder | ImageCsv, Field(discriminator="source")]
