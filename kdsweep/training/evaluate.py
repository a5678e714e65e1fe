"""The figures of a network on the test split, from its stored logits."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.classification import (
    binary_f1_score,
    multiclass_auroc,
    multiclass_confusion_matrix,
    multiclass_f1_score,
)

CALIBRATION_BINS = 15


def evaluate(
    logits: Tensor, labels: Tensor, teacher: Tensor | None, classes: Sequence[str], positive: int | None
) -> dict[str, Any]:
    """Figures of logits [N, C] against labels [N]; agreement with the teacher's logits, if there are any.

    `f1` is that of the `positive` one of two classes. ROC AUC is taken from the scores: of two classes that
    of the positive one, of more one class against the rest, averaged over the classes that occur. The
    calibration error is the expected one of 15 equal bins of confidence (Guo et al. 2017, arXiv:1706.04599);
    `calibration` has their count, mean confidence and accuracy, None where a bin is empty.
    The confusion matrix has true classes as rows; a class's accuracy is the share of its images found.
    """
    probabilities = logits.softmax(dim=1)
    predicted = logits.argmax(dim=1)
    confusion = multiclass_confusion_matrix(predicted, labels, len(classes))
    found = confusion.diag() / confusion.sum(dim=1)
    calibration = _calibration(probabilities, labels)
    figures: dict[str, Any] = {
        "accuracy": predicted.eq(labels).double().mean().item(),
        "macro_f1": multiclass_f1_score(predicted, labels, len(classes), average="macro").item(),
        "roc_auc": _auroc(probabilities, labels),
        "cross_entropy": F.cross_entropy(logits, labels).item(),
        "calibration_error": _calibration_error(calibration),
        "calibration": calibration,
        "confusion": confusion.tolist(),
        "class_accuracy": {
            name: share.item() for name, share in zip(classes, found, strict=True) if not share.isnan()
        },
    }
    if positive is not None:
        figures["f1"] = binary_f1_score(predicted.eq(positive).int(), labels.eq(positive).int()).item()
        figures["positive_class"] = classes[positive]
    if teacher is not None:
        figures["agreement"] = predicted.eq(teacher.argmax(dim=1)).double().mean().item()
    return figures


def _auroc(probabilities: Tensor, labels: Tensor) -> float | None:
    """None where it is not defined, with less than two classes among the labels."""
    present = labels.unique()
    if len(present) < 2:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on classes that a small test split lacks, left out below
        each = multiclass_auroc(probabilities, labels, probabilities.shape[1], average=None)
    assert isinstance(each, torch.Tensor)
    return each[present].mean().item()


def _calibration(probabilities: Tensor, labels: Tensor) -> dict[str, list[Any]]:
    """Per bin of confidence, from below: how many images, their mean confidence, the share that is right.

    A confidence of exactly 1 belongs to the last bin.
    """
    confidence, predicted = probabilities.double().max(dim=1)
    bins = (confidence * CALIBRATION_BINS).long().clamp(max=CALIBRATION_BINS - 1)
    count = bins.bincount(minlength=CALIBRATION_BINS)
    right = predicted.eq(labels).double()
    means = [bins.bincount(each, CALIBRATION_BINS) / count for each in (confidence, right)]
    confidence_of, accuracy_of = ([None if x != x else x for x in each.tolist()] for each in means)
    return {"count": count.tolist(), "confidence": confidence_of, "accuracy": accuracy_of}


def _calibration_error(calibration: dict[str, list[Any]]) -> float:
    bins = [each for each in zip(*calibration.values(), strict=True) if each[0]]
    images = sum(count for count, _, _ in bins)
    return float(sum(count * abs(accuracy - confidence) for count, confidence, accuracy in bins) / images)
