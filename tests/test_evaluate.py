"""Figures of the test split against scikit-learn and formulas in float64."""

import numpy as np
import pytest
import torch
from sklearn import metrics

from kdsweep.training.evaluate import CALIBRATION_BINS, evaluate

CLASSES = ("a", "b", "c", "d", "e")


@pytest.fixture
def outputs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 5
    logits = torch.randn(200, 5, generator=generator)
    logits[torch.arange(200), labels] += 1.0
    return logits, labels


def test_figures(outputs):
    logits, labels = outputs
    figures = evaluate(logits, labels, None, CLASSES, None)
    probabilities = torch.softmax(logits.double(), 1).numpy()
    truth, predicted = labels.numpy(), probabilities.argmax(1)
    assert figures["accuracy"] == pytest.approx(metrics.accuracy_score(truth, predicted))
    assert figures["macro_f1"] == pytest.approx(metrics.f1_score(truth, predicted, average="macro"), abs=1e-6)
    assert figures["roc_auc"] == pytest.approx(
        metrics.roc_auc_score(truth, probabilities, multi_class="ovr"), abs=1e-6
    )
    assert figures["cross_entropy"] == pytest.approx(metrics.log_loss(truth, probabilities), abs=1e-6)
    assert figures["confusion"] == metrics.confusion_matrix(truth, predicted).tolist()
    assert "agreement" not in figures and "f1" not in figures
    recalls = metrics.recall_score(truth, predicted, average=None)
    assert figures["class_accuracy"] == pytest.approx(dict(zip(CLASSES, recalls, strict=True)))


@pytest.mark.parametrize("positive", [0, 1])
def test_figures_of_two_classes_are_of_the_positive_one(positive):
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(90) % 3 // 2
    logits = torch.randn(90, 2, generator=generator)
    logits[torch.arange(90), labels] += 0.7
    figures = evaluate(logits, labels, None, ("healthy", "ill"), positive)
    probabilities = torch.softmax(logits.double(), 1).numpy()
    truth, predicted = labels.numpy(), probabilities.argmax(1)
    assert figures["positive_class"] == ("healthy", "ill")[positive]
    assert figures["f1"] == pytest.approx(metrics.f1_score(truth, predicted, pos_label=positive), abs=1e-6)
    scores = metrics.roc_auc_score(truth == positive, probabilities[:, positive])
    assert figures["roc_auc"] == pytest.approx(scores, abs=1e-6)
    assert figures["roc_auc"] != pytest.approx(
        metrics.roc_auc_score(truth == positive, predicted == positive), abs=1e-3
    ), "from scores, not from predicted labels"


def test_calibration_error_is_guos(outputs):
    logits, labels = outputs
    probabilities = torch.softmax(logits.double(), 1).numpy()
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels.numpy()
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    expected = sum(
        (bins == i).mean() * abs(right[bins == i].mean() - confidence[bins == i].mean())
        for i in np.unique(bins)
    )
    assert evaluate(logits, labels, None, CLASSES, None)["calibration_error"] == pytest.approx(
        expected, abs=1e-5
    )


def test_the_calibration_error_is_that_of_the_bins(outputs):
    logits, labels = outputs
    logits[:20] *= 100  # confidences of exactly 1, right ones and wrong ones: of the last bin, as others are
    figures = evaluate(logits, labels, None, CLASSES, None)
    confidence = torch.softmax(logits, 1).max(1).values
    assert confidence.eq(1).any()
    bins = figures["calibration"]
    assert {len(each) for each in bins.values()} == {CALIBRATION_BINS}
    assert sum(bins["count"]) == len(labels)
    for i, (count, sure, right) in enumerate(
        zip(bins["count"], bins["confidence"], bins["accuracy"], strict=True)
    ):
        here = (confidence >= i / CALIBRATION_BINS) & (confidence < (i + 1) / CALIBRATION_BINS)
        here |= confidence.eq(1) & (i == CALIBRATION_BINS - 1)
        assert count == here.sum()
        if count:
            assert sure == pytest.approx(confidence[here].mean().item(), abs=1e-6)
            assert right == pytest.approx(logits.argmax(1).eq(labels)[here].double().mean().item())
        else:
            assert sure is None and right is None
    gaps = [
        count / len(labels) * abs(right - sure)
        for count, sure, right in zip(bins["count"], bins["confidence"], bins["accuracy"], strict=True)
        if count
    ]
    assert figures["calibration_error"] == pytest.approx(sum(gaps), abs=1e-12)


def test_agreement_is_the_share_of_equal_predictions(outputs):
    logits, labels = outputs
    other = logits.flip(0)
    expected = (logits.argmax(1) == other.argmax(1)).double().mean().item()
    assert evaluate(logits, labels, other, CLASSES, None)["agreement"] == pytest.approx(expected)


def test_a_class_without_test_images_is_left_out_of_the_area(outputs):
    logits, labels = outputs
    kept = labels != 4
    logits, labels = logits[kept], labels[kept]
    probabilities = torch.softmax(logits, 1)
    each = [metrics.roc_auc_score(labels == c, probabilities[:, c]) for c in range(4)]
    assert evaluate(logits, labels, None, CLASSES, None)["roc_auc"] == pytest.approx(np.mean(each), abs=1e-6)
    assert evaluate(logits[:1], labels[:1], None, CLASSES, None)["roc_auc"] is None
