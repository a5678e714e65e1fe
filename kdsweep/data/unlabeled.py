"""How an epoch mixes labelled images with images that have no labels."""

from dataclasses import dataclass
from functools import cached_property
from math import ceil


@dataclass(frozen=True)
class Mix:
    """An epoch over both kinds of images, in batches of at most `batch_size`.

    With a `share`, that part of each batch has no labels, and the epoch ends when the kind that takes longer
    was seen once; the other kind is passed over again and again. Without one every image is seen once.
    """

    labeled: int
    unlabeled: int
    share: float | None
    batch_size: int

    @cached_property
    def passes(self) -> tuple[int, int]:
        """In how many batches all labelled images are seen, and all others; 0 for a kind that is not."""
        if self.share is None:
            together = ceil((self.labeled + self.unlabeled) / self.batch_size)
            return together, together
        if self.share == 1:
            return 0, ceil(self.unlabeled / self.batch_size)
        without = min(max(round(self.share * self.batch_size), 1), self.batch_size - 1)
        return ceil(self.labeled / (self.batch_size - without)), ceil(self.unlabeled / without)

    @property
    def largest_batch(self) -> int:
        """A larger `batch_size` changes nothing."""
        return self.labeled + self.unlabeled if self.share is None else self.batch_size

    @property
    def batches(self) -> int:
        return max(self.passes)

    @property
    def labeled_in_batch(self) -> float:
        """How many images of a batch have labels, on average."""
        return self.labeled / self.passes[0] if self.passes[0] else 0.0

    @property
    def images(self) -> int:
        """How many images an epoch sees, those of several passes several times."""
        kinds = zip((self.labeled, self.unlabeled), self.passes, strict=True)
        return sum(_seen(count, passes, self.batches) for count, passes in kinds if passes)


def _seen(count: int, passes: int, batches: int) -> int:
    """How many of `count` images so many batches have, if a pass takes `passes`, the larger ones first."""
    whole, rest = divmod(batches, passes)
    return whole * count + rest * (count // passes) + min(rest, count % passes)
