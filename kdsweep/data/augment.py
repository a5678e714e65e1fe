"""Random changes of training images, a batch at a time on the device, each image with its own draw."""

import torch
from torch import Tensor
from torch.nn import functional as F

from kdsweep.config import Augment


def augment(images: Tensor, recipe: Augment, generator: torch.Generator) -> Tensor:
    """Crop with padding, then flip, `images` [B, C, H, W]; drawn by `generator`, on the CPU."""
    count, device = len(images), images.device
    if recipe.crop_padding:
        offsets = torch.randint(0, 2 * recipe.crop_padding + 1, (2, count), generator=generator)
        images = _crop(images, recipe.crop_padding, offsets.to(device))
    if recipe.horizontal_flip:
        flip = torch.rand(count, generator=generator).lt(0.5).to(device)
        images = torch.where(flip[:, None, None, None], images.flip(3), images)
    return images


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
