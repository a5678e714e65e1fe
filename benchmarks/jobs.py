"""Measures what a job of a sweep costs beyond its training.

    python benchmarks/jobs.py [--jobs 60]

It runs a sweep over the temperature on scikit-learn's digits, in a new store. Each job trains its own student
for an epoch on one thread, because threads that wait for each other on a busy machine would count. The
command's wall time, minus the training seconds that its stages report, over the number of jobs is the
overhead of a job. The start (imports, checks, MLflow's new database), the first job (which imports what all
jobs need) and the end (table, pictures) do not grow with the jobs. A further job costs its composition,
checks, building, logits, evaluation, confusion matrix and MLflow.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lines, whole = sweep(Path(folder), options.jobs)
        trained = training(Path(folder))
    start, *ends = lines
    steps = [end - begin for begin, end in zip([start, *ends], ends, strict=False)]
    first, rest = steps[0] - trained[0], sum(steps[1:]) - sum(trained[1:])
    print(f"jobs                  {options.jobs}, {sum(trained):.1f} s of training in all")
    print(f"start and checks      {start:.2f} s")
    print(f"first job             {first:.2f} s beyond its training (imports)")
    print(f"further jobs          {rest / len(steps[1:]):.3f} s each beyond their training")
    print(f"end                   {whole - ends[-1]:.2f} s (table, pictures)")
    print(f"overhead per job      {(whole - sum(trained)) / options.jobs:.3f} s, everything counted")


def sweep(folder: Path, jobs: int) -> tuple[list[float], float]:
    """Seconds from the start to the sweep's first line, to each job's line, and to the end."""
    program = str(Path(sys.executable).parent / "kdsweep")
    hardware = ["hardware.threads=1", "hardware.together=off"]  # else the first job trains for the others
    command = [program, "-m", f"temperature=range(1,{jobs + 1})", "training.epochs=1", *hardware]
    start, lines = time.perf_counter(), []
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        for line in running.stdout:
            if line.startswith(("[", f"{jobs} jobs")):
                lines.append(time.perf_counter() - start)
    if running.returncode:
        raise SystemExit(running.returncode)
    return lines, time.perf_counter() - start


def training(folder: Path) -> list[float]:
    """The seconds that each job trained itself, from its result."""
    files = sorted(folder.glob("multirun/*/*/*/result.json"), key=lambda file: int(file.parent.name))
    results = [json.loads(file.read_text()) for file in files]
    return [
        sum(network["seconds"] for network in result["networks"].values() if not network["reused"])
        for result in results
    ]


if __name__ == "__main__":
    main()
