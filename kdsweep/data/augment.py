"""Random changes of training images, a batch at a time on the device, each image with its own draw.

Crops, flips and affine moves are kdsweep's own: torchvision has one draw for a batch, and image by image it
takes 7 to 25 times as long for small images. What is torchvision's goes image by image.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional as F

from kdsweep.config import Augment


def augment(images: Tensor, recipe: Augment, generator: torch.Generator) -> Tensor:
    """Change `images`, uint8 [B, C, H, W], as `recipe` demands; `generator`, on the CPU, draws the changes.

    Crops, flips and torchvision's operations give uint8; other changes give float32, in 0..255. A change that
    is off draws nothing.
    """
    count, device = len(images), images.device
    if recipe.resized_crop != (1, 1):
        images = _each(images, _resized_crop(recipe, images), generator)
    if recipe.crop_padding:
        offsets = torch.randint(0, 2 * recipe.crop_padding + 1, (2, count), generator=generator)
        images = _crop(images, recipe.crop_padding, offsets.to(device))
    for on, side in ((recipe.horizontal_flip, 3), (recipe.vertical_flip, 2)):
        if on:
            flip = torch.rand(count, generator=generator).lt(0.5).to(device)
            images = torch.where(flip[:, None, None, None], images.flip(side), images)
    if recipe.operates:
        images = _each(images, _operations(recipe), generator)
    if recipe.rotation or recipe.shift or recipe.zoom != (1, 1):
        height, width = images.shape[2:]
        images = _move(images.float(), _draw_moves(recipe, count, height / width, generator).to(device))
    if recipe.brightness != (1, 1):
        factors = _uniform(*recipe.brightness, (count, 1, 1, 1), generator).to(device)
        images = images.float() * factors
    images = images.clamp(0, 255) if images.is_floating_point() else images
    if recipe.random_erasing:
        images = _each(images, _erasing(recipe), generator)
    return images


Change = Callable[[Tensor], Tensor]


@contextmanager
def drawing(generator: torch.Generator) -> Iterator[None]:
    """Have torch's own generator, from which torchvision draws, be `generator` for a while."""
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(generator.get_state())
        yield
        generator.set_state(torch.get_rng_state())


def _each(images: Tensor, change: Change, generator: torch.Generator) -> Tensor:
    """Each image [C, H, W] changed by one of torchvision's transforms, which draws for it."""
    with drawing(generator):
        return torch.stack([change(image) for image in images])


def _resized_crop(recipe: Augment, images: Tensor) -> Change:
    from torchvision.transforms import v2  # late: importing it takes a second

    crop: Change = v2.RandomResizedCrop(list(images.shape[2:]), recipe.resized_crop)
    return crop


def _operations(recipe: Augment) -> Change:
    from torchvision.transforms import v2

    operations: list[Change] = []
    if recipe.rand_augment.num_ops:
        operations.append(v2.RandAugment(recipe.rand_augment.num_ops, recipe.rand_augment.magnitude))
    if recipe.trivial_augment:
        operations.append(v2.TrivialAugmentWide())
    in_turn: Change = v2.Compose(operations)
    return in_turn


def _erasing(recipe: Augment) -> Change:
    from torchvision.transforms import v2

    erase: Change = v2.RandomErasing(recipe.random_erasing)
    return erase


def _crop(images: Tensor, padding: int, offsets: Tensor) -> Tensor:
    """A window of the old size from each zero-padded image, at its offsets [2, B] from the top left."""
    count, _, height, width = images.shape
    padded = F.pad(images, (padding,) * 4)
    rows = offsets[0, :, None] + torch.arange(height, device=images.device)
    columns = offsets[1, :, None] + torch.arange(width, device=images.device)
    image = torch.arange(count, device=images.device)
    # [B, C, H', W'] indexed by [B, 1, 1], [B, H, 1], [B, 1, W] gives [B, H, W, C]
    windows = padded.permute(0, 2, 3, 1)[image[:, None, None], rows[:, :, None], columns[:, None, :]]
    return windows.permute(0, 3, 1, 2)


def _draw_moves(recipe: Augment, count: int, aspect: float, generator: torch.Generator) -> Tensor:
    """Matrices [B, 2, 3] that map a pixel's new place to its old one, both (x, y) in -1..1.

    `aspect` is height / width, without which a rotation would shear in these coordinates.
    """
    angles, shifts = torch.zeros(count), torch.zeros(2, count)
    across_zoom = down_zoom = torch.ones(count)
    if recipe.rotation:
        angles = _uniform(-recipe.rotation, recipe.rotation, (count,), generator) * (math.pi / 180)
    if recipe.shift:
        shifts = _uniform(-recipe.shift, recipe.shift, (2, count), generator) * 2  # the side is 2 long
    if recipe.zoom != (1, 1):
        across_zoom = down_zoom = _uniform(*recipe.zoom, (count,), generator)
        if recipe.independent_zoom:
            down_zoom = _uniform(*recipe.zoom, (count,), generator)
    cosines, sines = angles.cos(), angles.sin()
    across = torch.stack((across_zoom * cosines, -down_zoom * sines * aspect, shifts[0]), dim=1)
    down = torch.stack((across_zoom * sines / aspect, down_zoom * cosines, shifts[1]), dim=1)
    return torch.stack((across, down), dim=1)


def _move(images: Tensor, moves: Tensor) -> Tensor:
    """Each image [B, C, H, W] moved by its matrix; the border's pixels repeat beyond it."""
    grid = F.affine_grid(moves, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _uniform(low: float, high: float, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator)
