"""Measures how much faster kdsweep runs a sweep over temperatures than a naive script.

    python benchmarks/sweep.py [--root data] [--images 20000] [--epochs 12]

The sweep is T = 1, 2, 4, 16, 32, 64 of `mnist_kd` on the first images of MNIST (random images of its shape
without --root). Its teacher is already trained and its logits stored, as after any first student. The naive
script has a DataLoader with per-image transforms and asks the teacher in every step. All its epochs cost the
same, so a few of them are timed, in the same run, and stand for the others. kdsweep's time is that of the
whole command: start, checks, six trainings, evaluation, MLflow, table.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset
from torchvision import transforms
from torchvision.datasets import MNIST

from kdsweep.data.arrays import IDX_FILES, read_arrays
from kdsweep.networks.zoo.mlp import MLP
from kdsweep.networks.zoo.mnist_cnn import MnistCNN

TEMPERATURES = "1,2,4,16,32,64"
BATCH, ALPHA = 256, 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, help="folder with MNIST/raw")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=12)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = raw_files(options.root, Path(folder), options.images)
        ours = kdsweep_sweep(Path(folder), root, options.images, options.epochs)
        naive = naive_epoch(root, options.images - options.images // 10)
    whole = naive * options.epochs * len(TEMPERATURES.split(","))
    print(f"images {options.images}, epochs {options.epochs}, threads {torch.get_num_threads()}")
    print(f"naive script  {naive:.1f} s per epoch, {whole:.0f} s for the sweep")
    print(f"kdsweep       {ours:.1f} s for the sweep")
    print(f"ratio         {whole / ours:.1f}")


def raw_files(root: Path | None, folder: Path, images: int) -> Path:
    """MNIST's files, unzipped as torchvision expects them."""
    raw = folder / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    if root is None:
        random = np.random.RandomState(0)
        arrays = [part for count in (images, 1000)
                  for part in (random.randint(0, 256, (count, 28, 28)), np.arange(count) % 10)]  # fmt: skip
    else:
        known = read_arrays("mnist", str(root))
        arrays = [part for split in (known.train, known.test) for part in (split.images[:, 0], split.labels)]
    for name, array in zip(IDX_FILES, arrays, strict=True):
        header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
        (raw / name).write_bytes(header + array.astype(np.uint8).tobytes())
    return folder / "data"


def kdsweep_sweep(folder: Path, root: Path, images: int, epochs: int) -> float:
    """Seconds of the command, with a teacher of one epoch in the store; a better one is as fast."""
    command = [
        str(Path(sys.executable).parent / "kdsweep"), "experiment=mnist_kd", "baseline=false",
        f"dataset.root={root}", f"dataset.train_limit={images}",
        f"training.epochs={epochs}", "teacher.training.epochs=1",
    ]  # fmt: skip
    quiet = {"cwd": folder, "check": True, "stdout": subprocess.DEVNULL}
    # a student of one epoch, which the sweep does not have, trains the teacher
    subprocess.run([*command, "temperature=3", "training.epochs=1"], **quiet)
    start = time.perf_counter()
    subprocess.run([*command, "-m", f"temperature={TEMPERATURES}"], **quiet)
    return time.perf_counter() - start


def naive_epoch(root: Path, images: int) -> float:
    """Seconds of an epoch of the naive script, the faster of two."""
    data = Subset(MNIST(str(root), train=True, transform=transforms.ToTensor()), range(images))
    loader = DataLoader(data, batch_size=BATCH, shuffle=True, num_workers=os.cpu_count() or 1)
    teacher, student = MnistCNN(10, 1, (28, 28)).eval(), MLP(10, 1, (28, 28))
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-3)
    seconds = []
    for temperature in (1.0, 4.0):
        start = time.perf_counter()
        for inputs, labels in loader:
            with torch.no_grad():
                taught = teacher(inputs)
            outputs = student(inputs)
            soft = F.kl_div(
                F.log_softmax(outputs / temperature, dim=1),
                F.softmax(taught / temperature, dim=1),
                reduction="batchmean",
            )
            loss = ALPHA * F.cross_entropy(outputs, labels) + (1 - ALPHA) * temperature**2 * soft
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


if __name__ == "__main__":
    main()
