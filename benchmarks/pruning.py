"""Measures how many epochs a pruned search needs, and how close its best trial comes to the full search's.

    python benchmarks/pruning.py --root data [--images 6000] [--epochs 15] [--trials 40] [--pruner NAME]

It runs the same search twice, over temperature, alpha and learning rate of `mnist_kd` on the first images of
MNIST, by the command, after training the teacher. It prints the epochs that the students trained and their
ratio, the best validation accuracies and their difference.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import optuna
from sweep import raw_files

COMMAND = str(Path(sys.executable).parent / "kdsweep")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True, help="folder with MNIST/raw")
    parser.add_argument("--images", type=int, default=6_000)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--pruner", default="successive_halving")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        job = [
            "experiment=mnist_kd", f"dataset.root={raw_files(options.root, folder, options.images)}",
            f"dataset.train_limit={options.images}",
            "teacher.training.epochs=3", "teacher.training.learning_rate=1e-3",
            f"training.epochs={options.epochs}", "student.model.hidden=[256]",
            "baseline=false",
        ]  # fmt: skip
        subprocess.run([COMMAND, *job], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        full = search(folder, "none", job, options.trials)
        pruned = search(folder, options.pruner, job, options.trials)
    print(f"images {options.images}, epochs {options.epochs}, trials {options.trials}")
    for pruner, (epochs, best, seconds) in {"none": full, options.pruner: pruned}.items():
        print(f"search.pruner={pruner:<19} {epochs:5} epochs  best val {best:.2%}  {seconds:.0f} s")
    print(f"ratio of the epochs               {pruned[0] / full[0]:.2f}")
    print(f"difference of the best, points    {100 * (pruned[1] - full[1]):+.2f}")


def search(folder: Path, pruner: str, job: list[str], trials: int) -> tuple[int, float, float]:
    """Epochs trained, best validation accuracy and seconds, from a store that has only the teacher."""
    work = folder / pruner
    shutil.copytree(folder / "kdsweep-store", work / "kdsweep-store")
    start = time.perf_counter()
    subprocess.run(
        [COMMAND, "-m", "search=temperature_alpha", *job, f"search.pruner={pruner}",
         f"search.n_trials={trials}", "training.learning_rate=tag(log,interval(1e-4,1e-2))"],
        cwd=work, check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    storage = f"sqlite:///{work}/optuna.db"
    (name,) = optuna.get_all_study_names(storage)
    study = optuna.load_study(study_name=name, storage=storage)
    return sum(len(trial.intermediate_values) for trial in study.trials), study.best_value, seconds


if __name__ == "__main__":
    main()
