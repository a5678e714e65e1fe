"""Random changes of training images."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.ndimage import affine_transform

from kdsweep.config import Augment
from kdsweep.data import augment as augment_module
from kdsweep.data.augment import augment


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=seeded(1))


def smooth(count: int, height: int, width: int) -> torch.Tensor:
    """Images that bilinear interpolation hardly changes: a blob off the centre, brightest where it is."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    blob = 200 * torch.exp(-4 * ((x - 0.3) ** 2 + (y + 0.4) ** 2))
    return blob.round().to(torch.uint8).expand(count, 2, height, width).contiguous()


@pytest.fixture
def draw(monkeypatch):
    """Has every draw between two bounds give the share `at` of the way."""

    def draw(at: float) -> None:
        monkeypatch.setattr(
            augment_module,
            "_uniform",
            lambda low, high, shape, generator: torch.full(shape, low + (high - low) * at),
        )

    return draw


def test_without_augmentation_images_stay_and_nothing_is_drawn():
    images, generator = noise(4, 1, 4, 4), seeded()
    before = generator.get_state()
    assert augment(images, Augment(), generator) is images
    assert torch.equal(generator.get_state(), before)


@given(st.integers(1, 3), st.integers(0, 99))
def test_crops_are_windows_of_the_padded_image(padding, seed):
    images = noise(6, 2, 5, 7)
    cropped = augment(images, Augment(crop_padding=padding), seeded(seed))
    assert cropped.dtype == torch.uint8
    padded = torch.nn.functional.pad(images, (padding,) * 4)
    for image, crop in zip(padded, cropped, strict=True):
        windows = image.unfold(1, 5, 1).unfold(2, 7, 1).permute(1, 2, 0, 3, 4).reshape(-1, 2, 5, 7)
        assert (windows == crop).all(dim=(1, 2, 3)).any()


@pytest.mark.parametrize(("key", "side"), [("horizontal_flip", 3), ("vertical_flip", 2)])
def test_flips_are_exact_drawn_per_image_and_seeded(key, side):
    images = noise(64, 1, 4, 6)
    first, second = (augment(images, Augment(**{key: True}), seeded(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert first.dtype == torch.uint8
    kept = (first == images).all(dim=(1, 2, 3))
    flipped = (first == images.flip(side)).all(dim=(1, 2, 3))
    assert (kept | flipped).all()
    assert 10 < kept.sum() < 54


def test_crops_and_flips_are_drawn_as_before_there_was_more():
    """Networks trained with them are found in the store."""
    images = noise(8, 1, 6, 6)
    generator = seeded(5)
    offsets = torch.randint(0, 5, (2, 8), generator=generator)
    flip = torch.rand(8, generator=generator) < 0.5
    padded = torch.nn.functional.pad(images, (2,) * 4)
    expected = [
        padded[i, :, offsets[0, i] : offsets[0, i] + 6, offsets[1, i] : offsets[1, i] + 6] for i in range(8)
    ]
    expected = [image.flip(2) if turn else image for image, turn in zip(expected, flip, strict=True)]
    ours = augment(images, Augment(crop_padding=2, horizontal_flip=True), seeded(5))
    assert torch.equal(ours, torch.stack(expected))


@pytest.mark.parametrize(("height", "width"), [(16, 16), (12, 20), (20, 11)])
def test_half_a_turn_is_both_flips(draw, height, width):
    draw(1.0)
    images = noise(3, 2, height, width)
    turned = augment(images, Augment(rotation=180), seeded())
    assert turned.dtype == torch.float32
    torch.testing.assert_close(turned, images.flip(2, 3).float(), atol=0.05, rtol=0)


def test_a_quarter_turn_does_not_shear(draw):
    """A square in the middle of an oblong image stays that square, turned by 90°."""
    draw(1.0)
    images = torch.zeros(1, 1, 12, 20)
    square = noise(6, 6).float()
    images[0, 0, 3:9, 7:13] = square
    turned = augment(images.to(torch.uint8), Augment(rotation=90), seeded())[0, 0, 3:9, 7:13]
    quarters = [torch.rot90(square, times) for times in (1, 3)]
    assert min((turned - quarter).abs().max() for quarter in quarters) < 0.05


@pytest.mark.parametrize(("at", "share"), [(1.0, 0.25), (0.0, -0.25), (0.75, 0.125)])
def test_a_shift_is_a_share_of_each_side(draw, at, share):
    draw(at)
    images = noise(2, 3, 8, 16)
    down, across = int(8 * share), int(16 * share)
    shifted = augment(images, Augment(shift=0.25), seeded())
    rows = (torch.arange(8) + down).clamp(0, 7)
    columns = (torch.arange(16) + across).clamp(0, 15)  # the border goes on
    torch.testing.assert_close(shifted, images[:, :, rows][..., columns].float(), atol=0.05, rtol=0)


def test_zoom_below_one_enlarges():
    images = torch.zeros(1, 1, 16, 24, dtype=torch.uint8)
    images[..., 6:10, 10:14] = 200
    enlarged = augment(images, Augment(zoom=(0.5, 0.5)), seeded())
    shrunk = augment(images, Augment(zoom=(2.0, 2.0)), seeded())
    area = images.float().sum()
    assert enlarged.sum() / area == pytest.approx(4, rel=0.1)
    assert shrunk.sum() / area == pytest.approx(1 / 4, rel=0.1)
    bright = (enlarged[0, 0] > 100).nonzero()
    assert bright.amin(0).tolist() == [4, 8] and bright.amax(0).tolist() == [11, 15], "about the centre"


def test_zoom_is_drawn_in_its_range():
    images = torch.zeros(200, 1, 32, 32, dtype=torch.uint8)
    images[..., 12:20, 12:20] = 200
    areas = augment(images, Augment(zoom=(0.5, 1.0)), seeded()).sum(dim=(1, 2, 3)) / (200 * 64)
    assert 0.95 < areas.min() < 1.2 and 3.4 < areas.max() < 4.1


@pytest.mark.parametrize(("height", "width"), [(24, 24), (20, 33)])
def test_an_independent_zoom_is_that_of_keras(monkeypatch, height, width):
    """Against scipy in float64, by the matrix of Keras' apply_affine_transform: rotation times zoom."""
    draws = iter([30.0, 0.6, 1.4])  # degrees, then the zoom across and the zoom down
    monkeypatch.setattr(
        augment_module, "_uniform", lambda low, high, shape, generator: torch.full(shape, next(draws))
    )
    image = smooth(1, height, width)[:, :1]
    changed = augment(image, Augment(rotation=30, zoom=(0.5, 1.5), independent_zoom=True), seeded())[0, 0]
    cosine, sine = math.cos(math.radians(30)), math.sin(math.radians(30))
    matrix = np.array([[cosine, sine], [-sine, cosine]]) @ np.diag([1.4, 0.6])  # of (row, column)
    centre = (np.array([height, width]) - 1) / 2
    expected = affine_transform(
        image[0, 0].double().numpy(), matrix, centre - matrix @ centre, order=1, mode="nearest"
    )
    np.testing.assert_allclose(changed.numpy(), expected, atol=0.02)


def test_independent_zooms_are_drawn_apart():
    images = torch.zeros(300, 1, 32, 32, dtype=torch.uint8)
    images[..., 12:20, 12:20] = 200
    changed = augment(images, Augment(zoom=(0.5, 1.0), independent_zoom=True), seeded())[:, 0]
    height, width = changed[:, :, 16].sum(1) / (200 * 8), changed[:, 16].sum(1) / (200 * 8)
    for side in (height, width):
        assert side.min() > 0.95 and side.max() < 2.05
        assert stats.kstest(1 / side, "uniform", (0.5, 0.5)).pvalue > 1e-3
    assert abs(np.corrcoef(height, width)[0, 1]) < 0.2


@pytest.mark.parametrize(
    "change",
    [{"rotation": 20}, {"shift": 0.2}, {"zoom": (0.7, 1.3)}, {"brightness": (0.5, 1.5)}],
    ids=lambda change: next(iter(change)),
)
def test_every_image_has_its_own_draw_and_a_seed_repeats_it(change):
    images = smooth(5, 16, 20)
    first, again, other = (augment(images, Augment(**change), seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    for i in range(4):
        assert (first[i] - first[i + 1]).abs().max() > 1


def test_rotation_goes_to_both_sides():
    images = smooth(100, 16, 16)
    turned = augment(images, Augment(rotation=30), seeded())
    heavier_below = turned[:, :, 8:].sum(dim=(1, 2, 3)) > images[0, :, 8:].sum()
    assert 20 < heavier_below.sum() < 80


def test_brightness_is_a_factor_within_the_range_of_pixels():
    images = noise(3, 2, 5, 5)
    bright = augment(images, Augment(brightness=(2, 2)), seeded())
    assert torch.equal(bright, (images.float() * 2).clamp(max=255))
    assert torch.equal(augment(images, Augment(brightness=(0.5, 0.5)), seeded()), images.float() / 2)


@given(
    st.builds(
        Augment,
        crop_padding=st.integers(0, 2),
        horizontal_flip=st.booleans(),
        vertical_flip=st.booleans(),
        rotation=st.floats(0, 180),
        shift=st.floats(0, 0.9),
        zoom=st.tuples(st.floats(0.1, 1), st.floats(1, 3)),
        independent_zoom=st.booleans(),
        brightness=st.tuples(st.floats(0.1, 1), st.floats(1, 3)),
    ),
    st.integers(0, 99),
)
def test_whatever_is_on_pixels_stay_pixels(changes, seed):
    images = noise(3, 2, 6, 9)
    kept = images.clone()
    changed = augment(images, changes, seeded(seed))
    assert changed.shape == images.shape
    assert changed.min() >= 0 and changed.max() <= 255
    plain = changes.rotation == changes.shift == 0 and changes.zoom == changes.brightness == (1, 1)
    assert changed.dtype == (torch.uint8 if plain else torch.float32)
    assert torch.equal(images, kept), "the data set's own images are left alone"


def test_images_stay_on_their_device():
    everything = Augment(
        crop_padding=1, horizontal_flip=True, vertical_flip=True, rotation=9, shift=0.1, zoom=(0.5, 2),
        brightness=(0.5, 2),
    )  # fmt: skip
    assert augment(noise(3, 2, 6, 9).to("meta"), everything, seeded()).device.type == "meta"
