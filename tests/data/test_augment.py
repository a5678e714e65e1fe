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


LIBRARY = [  # what torchvision does, image by image
    {"resized_crop": (0.1, 0.6)},
    {"rand_augment": {"num_ops": 2, "magnitude": 20}},
    {"trivial_augment": True},
    {"random_erasing": 1.0},
]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("change", LIBRARY, ids=lambda change: next(iter(change)))
def test_torchvisions_changes_are_drawn_per_image_by_the_generator_alone(change, channels):
    images, generator = noise(1, channels, 16, 20).expand(12, -1, -1, -1), seeded(1)
    before = torch.get_rng_state()
    first = augment(images, Augment(**change), generator)
    later = augment(images, Augment(**change), generator)
    assert torch.equal(torch.get_rng_state(), before), "torch's own generator is as it was"
    torch.rand(5)
    assert torch.equal(first, augment(images, Augment(**change), seeded(1)))
    assert not torch.equal(first, later)
    assert first.dtype == torch.uint8 and first.shape == images.shape
    assert len({image.numpy().tobytes() for image in first}) > 6


def test_a_resized_crop_shows_a_part_enlarged():
    """Of a ramp from left to right, a part of the width has a part of the values."""
    ramp = torch.arange(0, 256, 4, dtype=torch.uint8).expand(40, 1, 64, 64)
    cropped = augment(ramp, Augment(resized_crop=(0.25, 0.25)), seeded())
    spans = (cropped.amax((1, 2, 3)).int() - cropped.amin((1, 2, 3)).int()) / 252
    assert ((spans > 0.4) & (spans < 0.6)).all(), "half the width, times the root of 3 / 4 to 4 / 3"
    assert cropped.amin((1, 2, 3)).unique().numel() > 10, "anywhere"


def test_erasing_blackens_a_rectangle_of_some_images():
    white = torch.full((200, 3, 16, 16), 255, dtype=torch.uint8)
    erased = augment(white, Augment(random_erasing=0.5), seeded())
    holes = (erased == 0).all(1)
    assert 70 < holes.any((1, 2)).sum() < 130
    for hole in holes[holes.any((1, 2))]:
        rows, columns = hole.any(1).sum(), hole.any(0).sum()
        assert hole.sum() == rows * columns and 0.01 < hole.float().mean() < 0.4
    assert ((erased == 0) | (erased == 255)).all()


def test_stronger_operations_change_more():
    images = smooth(64, 32, 32)[:, :1]
    changes = [
        (augment(images, Augment(rand_augment={"num_ops": 2, "magnitude": each}), seeded()).float() - images)
        .abs()
        .mean()
        for each in (0, 10, 25)
    ]
    assert changes[0] < changes[1] < changes[2]


def test_no_operations_are_none_whatever_their_magnitude():
    recipe = Augment(rand_augment={"num_ops": 0, "magnitude": 30})
    assert not recipe.random and recipe.effective() == Augment().effective()
    images = noise(2, 1, 4, 4)
    assert augment(images, recipe, seeded()) is images


@given(
    st.builds(
        Augment,
        resized_crop=st.tuples(st.floats(0.05, 0.5), st.floats(0.5, 1)),
        rand_augment=st.fixed_dictionaries({"num_ops": st.integers(0, 2), "magnitude": st.integers(0, 30)}),
        trivial_augment=st.booleans(),
        random_erasing=st.floats(0, 1),
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
    images = noise(3, 3, 6, 9)
    kept = images.clone()
    changed = augment(images, changes, seeded(seed))
    assert torch.equal(changed, augment(images, changes, seeded(seed)))
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
