"""A network that does what files tell it, and what its jobs leave."""

import json

from helpers import TINY, sweep_folder

DYING = """
import os, signal, time
from pathlib import Path
import torch
from torch import nn

class Net(nn.Module):
    '''Does in its third epoch what the file `do-WIDTH` says, if there is one.'''

    def __init__(self, num_classes, in_channels, image_size, width):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))
        self.file, self.steps = Path(f"do-{width}"), 0

    def forward(self, images):
        self.steps += self.training
        outputs = self.layers(images)
        if not self.training or self.steps < 5 or not self.file.exists():
            return outputs
        match self.file.read_text():
            case "give nan":
                return outputs * float("nan")
            case "fill the memory":
                torch.empty(2**60, dtype=torch.uint8)
            case "fill a GPU":
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has")
            case "raise MemoryError":
                raise MemoryError
            case "raise":
                raise ValueError("of the network's own")
            case "die once":
                self.file.unlink()
            case "die after 10":
                while Path("do-10").exists():
                    time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGKILL)
"""


NETWORK = ("--config-dir", "my_conf", "student=dying", "method=scratch",
           "training.epochs=6", "training.batch_size=100", *TINY[2:])  # fmt: skip


def results(folder) -> list[dict]:
    found = [json.loads(file.read_text()) for file in sweep_folder(folder).rglob("result.json")]
    return sorted(found, key=lambda result: result["number"])
