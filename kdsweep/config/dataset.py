"""The section `dataset`."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from kdsweep.config.section import Range, Section


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
    """A class named by a number, which YAML takes for one."""
    return str(value) if type(value) is int else value


class _Dataset(Section):
    name: str = Field(min_length=1)
    """how tables and runs call it"""
    root: str
    """folder of the data set's files, downloaded into it where they can be and are missing"""
    train_limit: int | None = Field(ge=1)
    """take the first N training images, before the validation split; null: all"""
    test_limit: int | None = Field(ge=1)
    """take the first N test images; null: all"""
    val_fraction: float = Field(gt=0, lt=1)
    """share of the training images, per class, that selects and is never trained on"""
    split_seed: int = Field(ge=0, lt=2**32)
    """draws the splits; not `seed`, so that seeds stay comparable"""
    positive_class: Annotated[str | None, BeforeValidator(_as_written)]
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
    test_fraction: float = Field(gt=0, lt=1)
    """share of all images, per class, drawn for testing where the files tell no splits"""


class ImageFolder(ImageDataset):
    """A folder per class, below folders of the splits or alone."""

    source: Literal["image_folder"]
    """image_folder: a folder per class"""
    train_folder: str = Field(min_length=1)
    """where root has this folder, it has one per split; else the folders of the classes"""
    val_folder: str = Field(min_length=1)
    """if root has none such, val_fraction is drawn from the training images"""
    test_folder: str = Field(min_length=1)
    """the folder of the test split, in root"""


class ImageCsv(ImageDataset):
    """A folder of images and a table of their labels."""

    source: Literal["image_csv"]
    """image_csv: a table of labels"""
    csv: str = Field(min_length=1)
    """the table, in root"""
    images: str = Field(min_length=1)
    """the folder of images, in root"""
    image_column: str
    """file names, relative to `images`"""
    label_column: str
    """names of classes"""
    partition_column: str | None
    """train, test and perhaps val; null: test_fraction and val_fraction are drawn"""


Dataset = Annotated[ArrayDataset | ImageFolder | ImageCsv, Field(discriminator="source")]
