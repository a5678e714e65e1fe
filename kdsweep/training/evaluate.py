"""The figures of a network on the test split, from its stored logits."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

CALIBRATION_BINS = 15


def evaluate(
    logits: Tensor, labels: Tensor, teacher: Tensor | None, classes: Sequence[str], positive: int | None
) -> dict[str, Any]:
    """Figures of logits [N, C] against labels [N]; agreement with those of who taught it, if there are any.

    All are computed in float64. `f1` is that of the `positive` one of two classes; macro F1 is averaged over
    the classes that occur or are predicted. ROC AUC ranks by a class's log-odds, which do not saturate as
    probabilities do: of two classes the positive one's, of more one class against the rest, averaged over
    the classes that occur. The
    calibration error is the expected one of 15 equal bins of confidence (Guo et al. 2017, arXiv:1706.04599);
    `calibration` has their count, mean confidence and accuracy, None where a bin is empty.
    The confusion matrix has true classes as rows; a class's accuracy is the share of its images found.
    """
    logits = logits.double()
    predicted = logits.argmax(dim=1)
    confusion = _confusion(predicted, labels, len(classes))
    right, of_class = confusion.diag().double(), confusion.sum(dim=1)
    found = right / of_class
    f1 = 2 * right / (of_class + confusion.sum(dim=0))  # NaN for a class of neither label nor prediction
    calibration = _calibration(logits.softmax(dim=1), labels)
    figures: dict[str, Any] = {
        "accuracy": predicted.eq(labels).double().mean().item(),
        "macro_f1": f1.nanmean().item(),
        "roc_auc": _auroc(logits, labels),
        "cross_entropy": F.cross_entropy(logits, labels).item(),
        "calibration_error": _calibration_error(calibration),
        "calibration": calibration,
        "confusion": confusion.tolist(),
        "class_accuracy": {
            name: share.item() for name, share in zip(classes, found, strict=True) if not share.isnan()
        },
    }
    if positive is not None:
        figures["f1"] = f1[positive].nan_to_num().item()
        figures["positive_class"] = classes[positive]
    if teacher is not None:
        figures["agreement"] = predicted.eq(teacher.argmax(dim=1)).double().mean().item()
    return figures


def _confusion(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """int64 [classes, classes], true classes as rows."""
    return (labels * classes + predicted).bincount(minlength=classes**2).reshape(classes, classes)


def _auroc(logits: Tensor, labels: Tensor) -> float | None:
    """None where it is not defined, with less than two classes among the labels."""
    present = labels.unique()
    if len(present) < 2:
        return None
    odds = log_odds(logits)
    return sum(area(odds[:, one], labels == one) for one in present.tolist()) / len(present)


def log_odds(logits: Tensor) -> Tensor:
    """Of each class against the rest [N, C]: x_c - log Σ exp(x_j), over the others.

    Precise however sure a network is: the rest of the largest is summed without it, for nothing is left of
    1 - p where p is all but 1.
    """
    rest = logits.logsumexp(dim=1, keepdim=True) + torch.log1p(-logits.softmax(dim=1))
    top = logits.argmax(dim=1, keepdim=True)
    others = logits.scatter(1, top, -torch.inf).logsumexp(dim=1, keepdim=True)
    return logits - rest.scatter(1, top, others)


def area(scores: Tensor, positive: Tensor) -> float:
    """Under the ROC curve: the share of pairs in which the positive one scores higher, equals being half."""
    _, place, count = scores.unique(return_inverse=True, return_counts=True)
    ranks = count.cumsum(0) - (count.double() - 1) / 2  # from 1; equals share their mean
    found = int(positive.sum())
    above = float(ranks[place[positive]].sum()) - found * (found + 1) / 2
    return above / (found * (len(scores) - found))


def _calibration(probabilities: Tensor, labels: Tensor) -> dict[str, list[Any]]:
    """Per bin of confidence, from below: how many images, their mean confidence, the share that is right.

    A confidence of exactly 1 belongs to the last bin.
    """
    confidence, predicted = probabilities.max(dim=1)
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
