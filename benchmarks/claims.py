"""How often a report claims a difference that is none, and how often it finds one that is there.

    python benchmarks/claims.py [--sweeps 400]

Whole sweeps are invented, network by network and image by image, and given to the report's own leaderboard. A
network is right on an image if a sum of normal draws is above a threshold: how hard the image is for all, for
this recipe, and for this network, and how good the network is. Recipes that are equal have images of their
own that are hard for them, and lucky and unlucky seeds; how good a network is on the validation images goes
with how good it is on the test images. Among the recipes are neither the baseline nor the teacher, which
are networks like theirs.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from kdsweep.analysis.leaderboard import Row, leaderboard
from kdsweep.results.network import Cost, Evaluation, NetworkResult, Selection
from kdsweep.results.packed import pack_bits
from kdsweep.results.record import Record
from kdsweep.results.result import JobResult, SweepInfo

ACCURACY = 0.95
OF_IMAGES = 1.0  # deviation of how hard images are for all, as of what is left to a network and an image


@dataclass(frozen=True)
class World:
    """What sweeps are like: `recipes` are 6 to 40, `gain` is what the first is better by, in deviations of
    its seeds.

    `of_recipes` is the deviation of how hard an image is for one recipe, `of_seeds` that of how good a
    network is, `luck` the correlation of the latter on validation and test images.
    """

    recipes: int
    seeds: int
    images: int
    of_recipes: float = 0.5
    of_seeds: float = 0.1
    luck: float = 0.5
    gain: float = 0.0

    def sweep(self, random: np.random.Generator) -> Record:
        """A sweep over so many temperatures and seeds."""
        networks = self.recipes + 2
        common = 0.3 * self.of_seeds * random.standard_normal(self.seeds)  # of the seed, for all recipes
        test_skill, own = self.of_seeds * random.standard_normal((2, networks, self.seeds))
        val_skill = self.luck * test_skill + (1 - self.luck**2) ** 0.5 * own
        for skill in (test_skill, val_skill):
            skill += common
            skill[0] += self.gain * self.of_seeds
        test, val = (
            self._right(random, self.images, test_skill),
            self._right(random, max(100, self.images // 2), val_skill),
        )
        return _record(test, val.mean(axis=2))

    def _right(
        self, random: np.random.Generator, images: int, skill: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """[networks, seeds, images]"""
        hard = OF_IMAGES * random.standard_normal(images, np.float32)
        threshold = -ndtri(ACCURACY) * (1 + OF_IMAGES**2 + self.of_recipes**2) ** 0.5
        right = np.empty((*skill.shape, images), bool)
        for each, skills in zip(right, skill, strict=True):
            own = hard + self.of_recipes * random.standard_normal(images, np.float32)
            own = own + skills[:, None].astype(np.float32)
            each[:] = own + random.standard_normal(own.shape, np.float32) > threshold
        return right


def _record(test: NDArray[np.bool_], val: NDArray[np.float64]) -> Record:
    """The last two networks are the baseline and the teacher."""
    results = []
    for recipe, seed in product(range(len(test) - 2), range(test.shape[1])):
        roles = {"student": recipe, "scratch": len(test) - 2, "teacher": len(test) - 1}
        networks = {
            role: NetworkResult(
                f"{i} {seed}",
                role,
                reused=False,
                seconds=1.0,
                cost=Cost(1, 1.0, 1, 1.0),
                val=Selection(float(val[i, seed]), 1.0),
                test=Evaluation(float(test[i, seed].mean()), right=pack_bits(test[i, seed])),
            )
            for role, i in roles.items()
        }
        data = {"name": "invented", "test_fingerprint": "invented", "images": {"test": test.shape[2]}}
        swept = {"temperature": recipe + 1, "seed": seed}
        results.append(
            JobResult(
                len(results), swept, seed, networks=networks, chain=["teacher", "student"], dataset=data
            )
        )
    return Record(SweepInfo("", ["temperature", "seed"], len(results)), results)


def claimed(rows: list[Row]) -> bool:
    """Whether a report says anywhere that there is a difference."""
    return any(
        each is not None and each.claimed
        for row in rows
        for each in (row.versus_alone, row.versus_teacher, row.versus_best)
    )


def found(rows: list[Row]) -> bool:
    """Whether the recipe chosen by validation is said to be above the baseline."""
    first = rows[0].versus_alone
    return first is not None and first.claimed and first.interval.mean > 0


def by_seeds_alone(rows: list[Row]) -> bool:
    """Whether a t test over seeds says so of the same comparison, as if there were no other test images."""
    first = rows[0].versus_alone
    return first is not None and abs(first.interval.mean) > (first.interval.over_seeds or 0.0)


def leaderboards(world: World, sweeps: int, seed: int = 0) -> Iterator[list[Row]]:
    random = np.random.default_rng(seed)
    return (leaderboard(world.sweep(random)) for _ in range(sweeps))


NULL = [
    World(recipes, seeds, images, of_recipes, of_seeds, luck=0.7)
    for images, of_recipes, of_seeds in (
        (150, 0.5, 0.1),
        (360, 0.7, 0.08),
        (2000, 0.0, 0.15),
        (10_000, 0.3, 0.1),
    )
    for recipes, seeds in ((6, 2), (6, 3), (18, 3), (40, 3), (6, 5), (18, 5), (6, 10))
]
REAL = [
    World(recipes, seeds, images, of_recipes, gain=gain)
    for images, of_recipes in ((360, 0.5), (10_000, 0.0))
    for recipes, seeds in ((1, 3), (1, 5), (6, 3), (6, 5), (18, 5))
    for gain in (2.0, 4.0)
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sweeps", type=int, default=400, help="of each kind")
    sweeps = parser.parse_args().sweeps
    print(f"{sweeps} sweeps of each kind")
    for title, worlds, says in (
        ("all recipes are equal; claimed is anything at all", NULL, claimed),
        ("one recipe is better; claimed is that the chosen one is", REAL, found),
    ):
        print(f"\n{title}\n\nimages  recipes  seeds  gain  claimed  by a t test over seeds", flush=True)
        for world in worlds:
            both = [(says(rows), by_seeds_alone(rows)) for rows in leaderboards(world, sweeps)]
            share, by_seeds = np.mean(both, axis=0)
            shown = f"{world.images:6}  {world.recipes:7}  {world.seeds:5}  {world.gain:4}"
            print(f"{shown}  {share:7.3f}  {by_seeds:7.3f}", flush=True)


if __name__ == "__main__":
    main()
