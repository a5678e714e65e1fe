"""Mixed images: mixup and cutmix, of a batch that the other augmentations have changed."""

from torch import Generator, Tensor

from kdsweep.config import Augment
from kdsweep.data.augment import drawing


def mix(
    inputs: Tensor, labels: Tensor, recipe: Augment, num_classes: int, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Mix each of `inputs` [B, C, H, W] with its neighbour in the batch, and their labels [B] as well.

    The labels become probabilities, float32 [B, num_classes]. A batch has one share, drawn by `generator`; if
    the recipe has mixup and cutmix, it has either with probability 1/2, as in timm.
    """
    from torchvision.transforms import v2

    ways = [
        way(alpha=alpha, num_classes=num_classes)
        for way, alpha in ((v2.MixUp, recipe.mixup), (v2.CutMix, recipe.cutmix))
        if alpha
    ]
    with drawing(generator):
        mixed: tuple[Tensor, Tensor] = (ways[0] if len(ways) == 1 else v2.RandomChoice(ways))(inputs, labels)
    return mixed


def main_class(labels: Tensor) -> Tensor:
    """The labels [B]; of mixed images those of the larger shares."""
    return labels.argmax(dim=1) if labels.dim() == 2 else labels
