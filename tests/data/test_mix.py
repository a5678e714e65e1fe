"""Mixed images and labels."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdsweep.config import Augment
from kdsweep.data.mix import main_class, mix

CLASSES = 5
ALPHAS = st.just(0) | st.floats(1e-3, 1000)
MIXES = [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.8, "cutmix": 1.0}]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(rows: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of one value each, their number in the batch; neighbours are of different classes."""
    values = torch.arange(1.0, rows + 1)[:, None, None, None]
    return values.expand(rows, 2, 8, 12).contiguous(), torch.arange(rows) % CLASSES


@given(
    st.builds(Augment, mixup=ALPHAS, cutmix=ALPHAS).filter(lambda recipe: recipe.mixes),
    st.integers(1, 9),
    st.integers(0, 99),
)
def test_a_labels_shares_are_those_of_the_images(recipe, rows, seed):
    """An image's mean is that of its two values by their shares, which are the label's probabilities."""
    images, labels = batch(rows)
    before = images.clone()
    mixed, soft = mix(images, labels, recipe, CLASSES, seeded(seed))
    assert mixed.shape == images.shape and soft.shape == (rows, CLASSES) and soft.dtype == torch.float32
    assert soft.min() >= 0
    torch.testing.assert_close(soft.sum(1), torch.ones(rows))
    neighbours = torch.roll(torch.arange(rows), 1)
    own, other = soft[torch.arange(rows), labels], soft[torch.arange(rows), labels[neighbours]]
    apart = labels != labels[neighbours]
    expected = own * images.mean((1, 2, 3)) + other * images.mean((1, 2, 3))[neighbours]
    torch.testing.assert_close(mixed.mean((1, 2, 3))[apart], expected[apart], rtol=1e-4, atol=1e-4)
    assert torch.equal(images, before), "the images are left alone"


@pytest.mark.parametrize("change", MIXES, ids=str)
def test_a_seed_repeats_it_and_torchs_own_generator_is_left_alone(change):
    recipe, (images, labels) = Augment(**change), batch()
    generator, before = seeded(1), torch.get_rng_state()
    first, soft = mix(images, labels, recipe, CLASSES, generator)
    torch.rand(3)
    again, same = mix(images, labels, recipe, CLASSES, seeded(1))
    assert torch.equal(first, again) and torch.equal(soft, same)
    later, _ = mix(images, labels, recipe, CLASSES, generator)
    assert not torch.equal(first, later), "the next batch has another draw"
    torch.set_rng_state(before)
    mix(images, labels, recipe, CLASSES, seeded(2))
    assert torch.equal(torch.get_rng_state(), before)


def test_mixup_blends_and_cutmix_pastes():
    images, labels = batch()
    blended, _ = mix(images, labels, Augment(mixup=1), CLASSES, seeded())
    assert all(len(image.unique()) == 1 for image in blended) and not torch.equal(blended, images)
    pasted, soft = mix(images, labels, Augment(cutmix=1), CLASSES, seeded())
    assert 0 < soft[0, 0] < 1
    assert all(set(image.unique().tolist()) <= {1.0 + i, 1.0 + (i - 1) % 8} for i, image in enumerate(pasted))


def test_of_both_each_batch_has_one_with_equal_probability():
    images, labels = batch()
    recipe, generator = Augment(mixup=1, cutmix=1), seeded()
    blended = 0
    for _ in range(200):
        mixed, _ = mix(images, labels, recipe, CLASSES, generator)
        values = mixed[0].unique()
        blended += len(values) == 1 and values.item() not in (1.0, 8.0)
    assert 70 < blended < 130


def test_the_shares_are_drawn_from_beta():
    """Its variance is 1 / (4 (2α + 1)); that of α = 1 is uniform."""
    images, labels = batch(2)
    for alpha, deviation in ((1.0, 0.2887), (0.2, 0.4226), (20.0, 0.0781)):
        generator = seeded(3)
        shares = [
            mix(images, labels, Augment(mixup=alpha), CLASSES, generator)[1][0, 0].item() for _ in range(400)
        ]
        assert torch.tensor(shares).mean().item() == pytest.approx(0.5, abs=0.06)
        assert torch.tensor(shares).std().item() == pytest.approx(deviation, rel=0.1)


def test_the_main_class_has_the_larger_share():
    assert main_class(torch.tensor([[0.3, 0.7], [0.9, 0.1]])).tolist() == [1, 0]
    assert main_class(torch.tensor([3, 1])).tolist() == [3, 1]
