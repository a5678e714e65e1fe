"""The convolutional network of Keras' MNIST example, teacher of the classic digits experiment."""

from torch import nn

from kdsweep.networks.zoo.named import Named


class MnistCNN(Named):
    """Raw logits [B, num_classes]; 1,625,866 parameters for 28×28×1 and 10 classes.

    conv 32, maxpool 2×2 stride 1, conv 64, maxpool 2×2, dropout, dense 128, dropout, dense; every image
    keeps its size until the second pooling, as with Keras' `same` padding.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        image_size: tuple[int, int],
        conv_dropout: float = 0.5,
        dense_dropout: float = 0.5,
    ) -> None:
        height, width = image_size
        if min(height, width) < 2:
            raise ValueError("images must be 2×2 pixels or larger: two pooling layers look at 2×2 windows")
        super().__init__(
            stage1=nn.Sequential(nn.Conv2d(in_channels, 32, 3, padding=1), nn.ReLU()),
            pool1=nn.Sequential(PadBottomRight(), nn.MaxPool2d(2, stride=1)),
            stage2=nn.Sequential(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU()),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            dropout=nn.Dropout(conv_dropout),
            hidden=nn.Sequential(nn.Linear(64 * (height // 2) * (width // 2), 128), nn.ReLU()),
            dropout2=nn.Dropout(dense_dropout),
            head=nn.Linear(128, num_classes),
        )


class PadBottomRight(nn.ZeroPad2d):
    """Adds a row and a column of zeros, which lose each max after a ReLU: Keras' `same` for an even pool."""

    def __init__(self) -> None:
        super().__init__((0, 1, 0, 1))
