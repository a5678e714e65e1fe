"""Results of networks made by hand."""

import numpy as np

from kdsweep.results.packed import pack_bits

IMAGES = 10_000  # of the test split


def network(key: str, accuracy: float, val: float = 0.5) -> dict:
    cost = {"parameters": 1000, "flops": 2e6, "bytes": 4000, "latency_ms": 0.5}
    right = np.arange(IMAGES) < round(accuracy * IMAGES)  # the better is right wherever the worse one is
    test = {"accuracy": accuracy, "macro_f1": accuracy - 0.1, "roc_auc": accuracy + 0.05}
    test["right"] = pack_bits(right)
    figures = {"val": {"val/accuracy": val, "val/cross_entropy": 1.0}, "test": test}
    history = [{"train/accuracy": 0.6, "val/accuracy": val}, {"train/accuracy": 0.7, "val/accuracy": val}]
    return {
        "key": key,
        "reused": False,
        "seconds": 1.0,
        "best_epoch": 1,
        "cost": cost,
        "history": history,
        **figures,
    }
