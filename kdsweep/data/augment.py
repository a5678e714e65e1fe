"""Random changes of training images, a batch at a time on the device, each image with its own draw."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from kdsweep.config import Augment


def augment(images: Tensor, recipe: Augment, generator: torch.Generator) -> Tensor:
    """Change `images`, uint8 [B, C, H, W], as `recipe` demands; `generator`, on the CPU, draws the changes.

    Crops and flips give uint8; other changes give float32, in 0..255. A change that is off draws nothing.
    """
    count, device = len(images), images.device
    if recipe.crop_padding:
        offsets = torch.randint(0, 2 * recipe.crop_padding + 1, (2, count), generator=generator)
        images = _crop(images, recipe.crop_padding, offsets.to(device))
    for on, side in ((recipe.horizontal_flip, 3), (recipe.vertical_flip, 2)):
        if on:
            flip = torch.rand(count, generator=generator).lt(0.5).to(device)
            images = torch.where(flip[:, None, None, None], images.flip(side), images)
    if recipe.rotation or recipe.shift or recipe.zoom != (1, 1):
        height, width = images.shape[2:]
        images = _move(images.float(), _draw_moves(recipe, count, height / width, generator).to(device))
    if recipe.brightness != (1, 1):
        factors = _uniform(*recipe.brightness, (count, 1, 1, 1), generator).to(device)
        images = images.float() * factors
    return images.clamp(0, 255) if images.is_floating_point() else images


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
