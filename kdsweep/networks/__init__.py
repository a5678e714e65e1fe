"""Networks, which give raw logits [B, num_classes].

A network is any callable `(num_classes, in_channels, image_size, **options) -> nn.Module`, where `image_size`
is (height, width); a config names it by import path in `model._target_`.
"""

INIT = "_init_"  # in a stage's network: its initialization, if it is not the network's own
STUDENT, TEACHER = "student", "teacher"  # in the description of a method's own network: those that it joins
