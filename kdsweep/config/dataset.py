"""The section `dataset`."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, field_validator
from pydantic_core import PydanticCustomError

from kdsweep.config.section import OF_SWEEP, Fraction, Range, Section, Share, rises


def _is_alpha(value: float) -> float:
    if 0 < value < 1e-3:  # smaller ones mix nothing, and underflow
        raise PydanticCustomError("alpha", "must be 0, for none, or from 0.001 to 1000; usual are 0.2 to 1")
    return value


Alpha = Annotated[float, Field(ge=0, le=1000), AfterValidator(_is_alpha)]  # of Beta(α, α)


class RandAugment(Section):
    """RandAugment (Cubuk et al. 2019, arXiv:1909.13719), as torchvision has it."""

    num_ops: int = Field(default=0, ge=0, le=20)
    """operations, drawn for each image, that follow each other; 0: none"""
    magnitude: int = Field(default=9, ge=0, le=30)
    """strength of the operations"""


class Augment(Section):
    """Random changes of training images; by default there are none."""

    resized_crop: Annotated[tuple[Share, Share], Field(strict=False), AfterValidator(rises)] = (1, 1)
    """smallest and largest share of the area that a crop of the image has, enlarged to the old size"""

    crop_padding: int = Field(default=0, ge=0, le=1000)
    """pixels of zero padding from which a crop of the old size is drawn"""
    horizontal_flip: bool = False
    """mirror left to right, with probability 1/2"""
    vertical_flip: bool = False
    """mirror top to bottom, with probability 1/2"""
    rand_augment: RandAugment = RandAugment()
    """RandAugment"""
    trivial_augment: bool = False
    """an operation of random strength for each image (Müller & Hutter 2021, arXiv:2103.10158)"""
    rotation: float = Field(default=0, ge=0, le=180)
    """largest angle in degrees, to either side"""
    shift: float = Field(default=0, ge=0, lt=1)
    """largest shift to either side, as a share of height and width"""
    zoom: Range = (1, 1)
    """smallest and largest share of the image's side that stays visible; below 1 enlarges"""
    independent_zoom: bool = False
    """true: separate zooms for height and width, as in Keras; false: one for both"""
    brightness: Range = (1, 1)
    """smallest and largest factor of the pixels"""
    random_erasing: Fraction = 0
    """probability that a rectangle of an image becomes black (Zhong et al. 2017, arXiv:1708.04896)"""
    mixup: Alpha = 0
    """α > 0: two images and labels are mixed by shares of Beta(α, α) (Zhang et al. 2017, arXiv:1710.09412)"""
    cutmix: Alpha = 0
    """α > 0: by a rectangle (Yun et al. 2019, arXiv:1905.04899); with mixup, a batch has one of the two"""

    @property
    def random(self) -> bool:
        """Whether an image looks different from epoch to epoch."""
        return self.effective() != Augment().effective()

    @property
    def mixes(self) -> str | None:
        """What mixes images and their labels, if anything does."""
        return "mixup" if self.mixup else "cutmix" if self.cutmix else None

    @property
    def operates(self) -> str | None:
        """What applies torchvision's operations on pixels, if anything does."""
        if self.rand_augment.num_ops:
            return "rand_augment"
        return "trivial_augment" if self.trivial_augment else None

    def effective(self) -> dict[str, Any]:
        """The options that play a part, so that two recipes that train alike are one."""
        off = {name for name in LATER if getattr(self, name) == Augment.model_fields[name].default}
        if not self.rand_augment.num_ops:
            off.add("rand_augment")
        if not self.independent_zoom or self.zoom == (1, 1):
            off.add("independent_zoom")
        return self.model_dump(exclude=off)


# options that keys do not have at their defaults, so that networks trained before there were these are found
LATER = ("resized_crop", "trivial_augment", "random_erasing", "mixup", "cutmix")


def _as_written(value: Any) -> Any:
    """The text of a name that YAML reads as a number or a truth value."""
    return str(value).lower() if type(value) in (bool, int, float) else value


def _names(value: Any) -> tuple[str, ...] | None:
    """Two or more names, with null read as a name; None if the value is no such list."""
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
    """its name in tables and runs"""
    root: str = Field(json_schema_extra=OF_SWEEP)
    """folder of the data set's files; missing files are downloaded if they can be"""
    train_limit: int | None = Field(ge=1)
    """use the first N training images, before the validation split; null: all"""
    test_limit: int | None = Field(ge=1)
    """use the first N test images; null: all"""
    val_fraction: float = Field(ge=0, lt=1)
    """share of the training images, per class, held back to select; 0: all train, and nothing is selected"""
    split_seed: int = Field(ge=0, lt=2**32)
    """seed of the splits, apart from `seed`, so that seeds stay comparable"""
    positive_class: Name | None
    """the positive one of two classes, for F1 and ROC AUC; null: the second"""
    normalize: Literal["unit", "standard"]
    """unit: pixels in [0, 1]; standard: also standardized by the training split's mean and deviation"""
    augment: Augment
    """random changes of training images, drawn again in each epoch"""
    unlabeled: str | None = Field(default=None, min_length=1)
    """folder of images without labels, for data of image files; taught students learn from them too"""
    unlabeled_share: float | None = Field(default=None, gt=0, le=1)
    """their share of each batch; 1: taught students see only them; null: an epoch has each image once"""


class ArrayDataset(_Dataset):
    """A data set whose files hold arrays of pixels."""

    source: Literal["digits", "mnist", "fashion_mnist", "cifar10", "cifar100"]
    """digits come with scikit-learn; mnist, fashion_mnist, cifar10, cifar100 are downloaded"""

    @field_validator("unlabeled")
    @classmethod
    def _has_no_files(cls, folder: str | None) -> None:
        if folder is not None:
            raise PydanticCustomError(
                "of_image_files",
                "needs a data set of image files: dataset=image_folder or dataset=image_csv; allowed: null",
            )


class ImageDataset(_Dataset):
    """A data set of image files, decoded and resized once."""

    image_size: int = Field(ge=1, le=4096)
    """side in pixels to which every image is resized once; the store keeps the decoded images"""
    resize: Literal["squash", "crop"]
    """squash: the whole image, with changed proportions; crop: the middle square"""
    on_corrupt: Literal["refuse", "skip"]
    """refuse: stop and list the unreadable images; skip: leave them out"""
    duplicates: Literal["warn", "refuse", "drop"] = "warn"
    """copies in two splits or with two labels: warn, refuse, or drop all but one (with two labels, all)"""
    background: Annotated[tuple[int, int, int], BeforeValidator(_colour), _COLOUR] = COLOURS["white"]
    """background of transparent images; channels from 0 to 255"""
    classes: Annotated[tuple[str, ...] | None, BeforeValidator(_classes)] = None
    """the classes to use, in the order of the outputs; null: all, by name, numbers by value"""
    test_fraction: float = Field(gt=0, lt=1)
    """share of all images, per class, drawn for testing if the files define no splits"""


class ImageFolder(ImageDataset):
    """A folder per class, below folders of the splits or alone."""

    source: Literal["image_folder"]
    """image_folder: a folder per class"""
    train_folder: Named
    """if root has this folder, or training, it has a folder per split; otherwise a folder per class"""
    val_folder: Named
    """or valid, validation, dev; if root has none, val_fraction is drawn from the training images"""
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
    """column of file names, relative to `images`"""
    label_column: Annotated[str | tuple[str, ...], BeforeValidator(_columns)]
    """column of class names; or a list of columns, one per class, with 1 for an image's class"""
    partition_column: Name | None
    """column of train, test and perhaps val; null: test_fraction and val_fraction are drawn"""


Dataset = Annotated[ArrayDataset | ImageFolder | ImageCsv, Field(discriminator="source")]
