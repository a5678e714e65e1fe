"""The networks of the recipes, a file each, giving raw logits [B, num_classes].

A network is any callable `(num_classes, in_channels, image_size, **options) -> nn.Module`, `image_size`
being (height, width); a config names it by import path in `model._target_`.
"""

INIT = "_init_"  # the key of a stage's network under which its initialization is kept, if it is not its own
SOURCE = (
    "_source_"  # the key of a stage's optimizer or schedule for the digest of its code, if it is the user's
)
