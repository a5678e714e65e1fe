"""ResNet-18, the ImageNet network of He et al. 2016, for small images too."""

from torch import nn

from kdsweep.networks.zoo.layers import SameConv2d, SameMaxPool2d
from kdsweep.networks.zoo.named import Named
from kdsweep.networks.zoo.resnet import he_initialize, stage


class ResNet18(Named):
    """Raw logits [B, num_classes]; 11,181,642 parameters for 3 channels and 10 classes.

    Images first become `upsample` times larger (nearest neighbour). The network pads as Keras does, and pools
    2×2 after the first convolution, while the paper pools 3×3.
    """

    def __init__(
        self, num_classes: int, in_channels: int, image_size: tuple[int, int], upsample: int = 1
    ) -> None:
        if upsample < 1:
            raise ValueError(f"upsample={upsample}; allowed: 1 (as they are) or more")
        super().__init__(
            resize=nn.Upsample(scale_factor=upsample) if upsample > 1 else nn.Identity(),
            stem=nn.Sequential(
                SameConv2d(in_channels, 64, 7, 2, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True)
            ),
            pool=SameMaxPool2d(2, 2),
            stage1=stage(64, 64, 2, 1, same_conv3x3),
            stage2=stage(64, 128, 2, 2, same_conv3x3),
            stage3=stage(128, 256, 2, 2, same_conv3x3),
            stage4=stage(256, 512, 2, 2, same_conv3x3),
            average=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            head=nn.Linear(512, num_classes),
        )
        he_initialize(self)


def same_conv3x3(inputs: int, outputs: int, stride: int) -> nn.Conv2d:
    return SameConv2d(inputs, outputs, 3, stride, bias=False)
