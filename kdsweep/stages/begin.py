"""The file of the weights that a network begins with."""

import re
from collections.abc import Callable
from pathlib import Path

from kdsweep.errors import ConfigError, KdsweepError
from kdsweep.networks.weights import WEIGHTS
from kdsweep.store.store import Store

STAGE, RUN = "stage:", "runs:/"
SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".tar")  # common for files of weights


def locate(weights: str, store: Store, fetch: Callable[[str], Path]) -> Path:
    """The file that a config's `weights` name; `fetch` downloads an artifact of an MLflow run.

    Raises ConfigError if no such file exists.
    """
    if weights.startswith(RUN):
        try:
            return fetch(weights)
        except KdsweepError as error:
            raise ConfigError(f"weights={error}") from error
    if weights.startswith(STAGE):
        entry = store.find(weights.removeprefix(STAGE))
        if entry is None or not (entry / WEIGHTS).is_file():
            raise ConfigError(
                f"weights={weights}: the store {store.root} has no such stage; a key has 32 digits, "
                "`kdsweep-store list` shows them"
            )
        return entry / WEIGHTS
    file = Path(weights).expanduser()
    if not file.is_file():
        raise ConfigError(f"weights={weights}: {_why_no_file(weights, file, store)}")
    return file


def _why_no_file(weights: str, file: Path, store: Store) -> str:
    if re.fullmatch(r"[0-9a-fA-F]{8,40}", weights):
        if store.find(weights):
            return f"is not a file but a stage of the store; write weights={STAGE}{weights}"
        return (
            f"no such file; if it is a stage's key, write {STAGE}KEY with all its 32 digits; if an MLflow "
            f"run's ID, {RUN}{weights}/{WEIGHTS}"
        )
    if file.is_dir():
        inside = sorted(path.name for path in file.iterdir() if path.suffix in SUFFIXES)
        examples = f", such as {file / inside[0]}" if inside else f" (it has none: {', '.join(SUFFIXES)})"
        return f"is a folder; give a file in it{examples}"
    if re.match(r"runs?:|models:|mlflow-artifacts:", weights):
        return f"must be {RUN}ID/PATH for a file of an MLflow run, such as {RUN}ID/{WEIGHTS}"
    if re.match(r"https?://|s3://|gs://|hf-hub:|hf://", weights):
        return "is not downloaded; download it and give the file"
    return (
        "no such file; allowed: a file of weights (safetensors, or a PyTorch checkpoint), "
        f"{STAGE}KEY of the store, {RUN}ID/PATH of MLflow"
    )
