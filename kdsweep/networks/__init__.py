"""Networks, which give raw logits [B, num_classes].

A network is any callable `(num_classes, in_channels, image_size, **options) -> nn.Module`, where `image_size`
is (height, width); a config names it by import path in `model._target_`.
"""

from collections.abc import Mapping
from typing import Any

# in the description of a stage's network, if it has them:
INIT = "_init_"  # its initialization, if it is not the network's own
GIVES = "_gives_"  # what it gives, if not logits: probabilities or embedding
CLASSES = "_classes_"  # how many outputs it has, and which of them stand for each of the data's classes
STUDENT, TEACHER = "student", "teacher"  # of a method's own network: those that it joins

EMBEDDINGS, PROBABILITIES = "embedding", "probabilities"  # what GIVES may say


def has_logits(model: Mapping[str, Any]) -> bool:
    return model.get(GIVES) != EMBEDDINGS
