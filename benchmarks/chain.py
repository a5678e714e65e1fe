"""Measures the cost of a sweep over chain lengths against the longest chain alone.

    python benchmarks/chain.py [--images 20000] [--epochs 10] [--longest 4]

It trains born-again generations of the `mlp` on random images of MNIST's shape, by the command, each time
with an empty store: first chain_length=4 alone, then chain_length=1,2,3,4. It prints the ratio of the two
times, which both include start, checks, evaluation, MLflow and pictures.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sweep import raw_files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--longest", type=int, default=4)
    options = parser.parse_args()
    lengths = ",".join(str(length) for length in range(1, options.longest + 1))
    with tempfile.TemporaryDirectory() as folder:
        root = raw_files(None, Path(folder), options.images)
        alone = seconds(Path(folder) / "alone", root, options.epochs, str(options.longest))
        swept = seconds(Path(folder) / "swept", root, options.epochs, lengths)
    print(f"images {options.images}, epochs {options.epochs}")
    print(f"chain_length={options.longest}        {alone:.1f} s")
    print(f"chain_length={lengths}  {swept:.1f} s")
    print(f"ratio                 {swept / alone:.3f}")


def seconds(folder: Path, root: Path, epochs: int, lengths: str) -> float:
    """Seconds of the whole command."""
    folder.mkdir()
    command = [
        str(Path(sys.executable).parent / "kdsweep"), "-m", "experiment=mnist_kd", "method=ban", "alpha=0",
        f"dataset.root={root}", f"training.epochs={epochs}", "teacher.training.epochs=1",
        f"chain_length={lengths}",
    ]  # fmt: skip
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
