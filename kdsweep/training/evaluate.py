"""The figures of a network on the test split, from its stored logits.

Figures that are no mean over images are computed on resamples of the test images too, the same for all
networks of one test split: reports derive their uncertainty from them, over seeds too.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from kdsweep.results.network import Calibration, Evaluation
from kdsweep.results.packed import pack_bits, pack_floats

CALIBRATION_BINS = 15
RESAMPLES = 100  # enough for a standard error: its own error is 7 %
MOST_WORK = 10**9  # images × classes × resamples; beyond, fewer resamples are drawn
FEWEST_RESAMPLES = 50


def evaluate(
    logits: Tensor, labels: Tensor, teacher: Tensor | None, classes: Sequence[str], positive: int | None
) -> Evaluation:
    """Figures of logits [N, C] against labels [N]; agreement with the teacher's logits, if any.

    F1 belongs to the `positive` one of two classes; macro F1 is the mean over the classes that occur or are
    predicted. ROC AUC ranks by log-odds: of two classes by the positive one's, of more by each class against
    the rest, averaged over the classes that occur. The calibration error is the expected one with 15 equal
    bins of confidence (Guo et al. 2017, arXiv:1706.04599). A class's accuracy is its recall.
    """
    count, logits = len(classes), logits.double()
    predicted = logits.argmax(dim=1)
    right = predicted.eq(labels)
    confusion = (labels * count + predicted).bincount(minlength=count**2).view(count, count)
    recall = confusion.diag() / confusion.sum(dim=1)
    weights = _resamples(len(labels), count)
    calibration = _calibration(logits, right, weights)
    f1 = _f1(predicted, labels, count, weights)
    occurs = f1.isfinite()
    measured = {
        "macro_f1": f1.nan_to_num().sum(dim=0) / occurs.sum(dim=0),
        "roc_auc": _auroc(logits, labels, weights),
        "calibration_error": _calibration_error(calibration),
    }
    if positive is not None:
        measured["f1"] = f1[positive].nan_to_num()
    firsts = {name: None if each is None else each[0].item() for name, each in measured.items()}
    shares = {name: share.item() for name, share in zip(classes, recall, strict=True) if not share.isnan()}
    agreement = None if teacher is None else predicted.eq(teacher.argmax(dim=1)).double().mean().item()
    return Evaluation(
        accuracy=right.double().mean().item(),
        cross_entropy=F.cross_entropy(logits, labels).item(),
        **firsts,
        calibration=_bins(calibration),
        confusion=confusion.tolist(),
        class_accuracy=shares,
        right=pack_bits(right.numpy()),
        resampled={
            name: pack_floats(each[1:].numpy()) for name, each in measured.items() if each is not None
        },
        positive_class=None if positive is None else classes[positive],
        agreement=agreement,
    )


@lru_cache(maxsize=4)
def _resamples(images: int, classes: int) -> Tensor:
    """The weight of each image, float32 [N, 1 + B]: 1, then its count in each of B draws with replacement."""
    resamples = max(FEWEST_RESAMPLES, min(RESAMPLES, MOST_WORK // (images * classes)))
    generator = torch.Generator().manual_seed(images)
    drawn = torch.randint(images, (resamples, images), generator=generator)
    drawn += images * torch.arange(resamples)[:, None]
    counts = drawn.flatten().bincount(minlength=resamples * images).view(resamples, images)
    return torch.cat([torch.ones(1, images), counts]).float().T.contiguous()


def _summed(weights: Tensor, groups: Tensor, count: int) -> Tensor:
    """The weights [N, 1 + B] of each group's images, float64 [count, 1 + B]."""
    return torch.zeros(count, weights.shape[1], dtype=torch.float64).index_add_(0, groups, weights.double())


def _f1(predicted: Tensor, labels: Tensor, classes: int, weights: Tensor) -> Tensor:
    """[C, 1 + B]; NaN where a class neither occurs nor is predicted."""
    right = predicted.eq(labels)
    hits = _summed(weights[right], labels[right], classes)
    return 2 * hits / (_summed(weights, labels, classes) + _summed(weights, predicted, classes))


def _auroc(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor | None:
    """[1 + B], the mean over the classes that occur; None if fewer than two do.

    Log-odds do not saturate; probabilities would at 1, where ties cannot be ranked.
    """
    present = labels.unique().tolist()
    if len(present) < 2:
        return None
    if logits.shape[1] == 2:  # the areas of both classes are equal
        return _area(logits[:, 1] - logits[:, 0], labels.eq(1), weights)
    areas = []
    for each in present:
        rest = torch.cat([logits[:, :each], logits[:, each + 1 :]], dim=1).logsumexp(dim=1)
        areas.append(_area(logits[:, each] - rest, labels.eq(each), weights))
    return torch.stack(areas).nanmean(dim=0)


def _area(scores: Tensor, positive: Tensor, weights: Tensor) -> Tensor:
    """The share of pairs (positive, negative) that the scores [N] order rightly, ties as half; [1 + B]."""
    negatives, order = scores[~positive].sort()
    below = weights.new_zeros(len(order) + 1, weights.shape[1])
    others = (~positive).nonzero().squeeze(1)[order]
    torch.cumsum(weights.index_select(0, others), dim=0, out=below[1:])
    first, last = (torch.searchsorted(negatives, scores[positive], right=after) for after in (False, True))
    ours = weights[positive]
    pairs = (ours * (below[first] + below[last])).sum(dim=0, dtype=torch.float64) / 2
    return pairs / (ours.sum(dim=0, dtype=torch.float64) * below[-1])


def _calibration(logits: Tensor, right: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Per bin of confidence, ascending, [15, 1 + B] each: images, the sum of confidences, right images.

    A confidence of exactly 1 belongs to the last bin.
    """
    confidence = logits.softmax(dim=1).amax(dim=1)
    bins = (confidence * CALIBRATION_BINS).long().clamp(max=CALIBRATION_BINS - 1)
    weights = weights.double()
    return (
        _summed(weights, bins, CALIBRATION_BINS),
        _summed(weights * confidence[:, None], bins, CALIBRATION_BINS),
        _summed(weights[right], bins[right], CALIBRATION_BINS),
    )


def _calibration_error(calibration: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    images, confidence, right = calibration
    return (confidence - right).abs().sum(dim=0) / images.sum(dim=0)


def _bins(calibration: tuple[Tensor, Tensor, Tensor]) -> Calibration:
    images, confidence, right = (each[:, 0] for each in calibration)
    means = {"confidence": confidence / images, "accuracy": right / images}
    shown = {name: [None if x != x else x for x in each.tolist()] for name, each in means.items()}
    return Calibration(images.long().tolist(), **shown)
