"""Random images, and the stages of a config on them, for the benchmarks."""

from collections.abc import Mapping

import numpy as np

from kdsweep.config import Config
from kdsweep.data.dataset import Dataset
from kdsweep.data.split import Split
from kdsweep.stage import Stage
from kdsweep.stages.chains import Known, plan


def random_images(count: int, shape: tuple[int, int, int]) -> Dataset:
    """So many images of ten classes to train, a ninth of that to validate, and one to test."""
    random = np.random.RandomState(0)

    def split(size: int) -> Split:
        images = random.randint(0, 256, (size, *shape)).astype(np.uint8)
        return Split(images, np.arange(size), np.arange(size) % 10)

    zero, one = np.zeros(shape[0], np.float32), np.ones(shape[0], np.float32)
    classes = tuple("0123456789")
    return Dataset(split(count), split(count // 9), split(1), classes, zero, one, "random", "random")


def stages(config: Config, dataset: Dataset) -> Mapping[str, Stage]:
    """The stages of a job by role."""
    count = len(dataset.train.labels)
    known = Known(
        source=lambda network: None,
        initial=lambda network: None,
        parameters=lambda network: 0,
        defaults=lambda network: {},
        on_gpu=lambda: False,
        classes=dataset.classes,
        draws_val=False,
        images=count,
        trained_on=count,
    )
    return plan(config, dataset.fingerprint, known).links()
