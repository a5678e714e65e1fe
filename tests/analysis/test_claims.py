"""How often a report claims what is not there, and finds what is: the simulation of benchmarks/claims.py."""

from math import sqrt

import numpy as np
import pytest
from claims import World, claimed, found, leaderboards
from invented import unvalidated

from kdsweep.analysis.leaderboard import leaderboard

LEVEL = 0.05


def share(world: World, sweeps: int, says) -> float:
    return sum(says(rows) for rows in leaderboards(world, sweeps)) / sweeps


def at_most(level: float, sweeps: int) -> float:
    """What a share of `level` stays below with 99 %."""
    return level + 2.33 * sqrt(level * (1 - level) / sweeps)


@pytest.mark.parametrize(
    "world",
    [
        World(6, 2, 360, of_recipes=0.7, of_seeds=0.08, luck=0.5),
        World(6, 3, 360, of_recipes=0.7, of_seeds=0.08, luck=0.5),
        World(18, 3, 1000, of_recipes=0.0, of_seeds=0.15, luck=0.7),
        World(6, 10, 150, of_recipes=0.7, of_seeds=0.08, luck=0.3),
    ],
    ids=lambda world: f"{world.recipes}-{world.seeds}-{world.images}",
)
def test_equal_recipes_are_rarely_told_apart(world):
    assert share(world, 120, claimed) <= at_most(LEVEL, 120)


@pytest.mark.long
@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
@pytest.mark.parametrize("recipes", [6, 18, 40])
@pytest.mark.parametrize("images", [150, 360, 1000])
def test_equal_recipes_are_rarely_told_apart_whatever_the_sweep(recipes, seeds, images):
    sweeps = 1600 // (recipes * seeds) + 40
    worlds = [
        World(recipes, seeds, images, of_recipes, of_seeds, luck=0.7)
        for of_recipes, of_seeds in ((0.7, 0.08), (0.0, 0.15))
    ]
    claims = sum(share(world, sweeps, claimed) for world in worlds) / len(worlds)
    assert claims <= at_most(LEVEL, sweeps * len(worlds))


@pytest.mark.long
@pytest.mark.parametrize(("recipes", "seeds"), [(6, 3), (18, 5)])
def test_equal_recipes_are_rarely_told_apart_on_many_images(recipes, seeds):
    assert share(World(recipes, seeds, 10_000, 0.3, 0.1, luck=0.7), 60, claimed) <= at_most(LEVEL, 60)


@pytest.mark.parametrize(
    ("world", "least"),
    [
        (World(1, 5, 10_000, of_recipes=0.0, of_seeds=0.1, gain=3.0), 0.75),  # a t test over seeds: 0.85
        (World(1, 5, 360, of_recipes=0.5, of_seeds=0.1, gain=3.0), 0.25),  # 360 images cannot show more
        (World(6, 5, 10_000, of_recipes=0.0, of_seeds=0.1, gain=4.0), 0.7),
    ],
    ids=["images", "few images", "chosen"],
)
def test_a_real_gain_is_found(world, least):
    assert share(world, 80, found) >= least


@pytest.mark.parametrize("images", [150, 1000])
def test_equal_recipes_are_rarely_told_apart_without_validation(images):
    random, world = np.random.default_rng(0), World(6, 3, images, of_recipes=0.0, of_seeds=0.15)
    sweeps = [leaderboard(unvalidated(world.sweep(random))) for _ in range(120)]
    assert sum(map(claimed, sweeps)) / 120 <= at_most(LEVEL, 120)
