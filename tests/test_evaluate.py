"""Figures of the test split against scikit-learn and formulas in float64."""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from sklearn import metrics

from kdsweep.packed import unpack_bits, unpack_floats
from kdsweep.training.evaluate import CALIBRATION_BINS, RESAMPLES, _resamples, evaluate

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


@pytest.mark.parametrize("scale", [1, 10, 40, 1000])
@pytest.mark.parametrize("classes", [2, 5])
def test_the_area_ranks_what_probabilities_cannot(scale, classes):
    """Logits so large that the probabilities of many images are 1: their order is in the logits still."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.arange(300) % classes
    logits = torch.randn(300, classes, generator=generator)
    logits[torch.arange(300), labels] += 0.8
    logits[:40] = logits[40:80].round()  # ties
    logits = logits * scale
    exact = logits.double().numpy()
    odds = np.stack([exact[:, c] - logsumexp(np.delete(exact, c, axis=1), axis=1) for c in range(classes)])
    each = [metrics.roc_auc_score(labels.numpy() == c, odds[c]) for c in range(classes)]
    found = evaluate(logits, labels, None, CLASSES[:classes], None)["roc_auc"]
    assert found == pytest.approx(np.mean(each), abs=5e-5), "but for how the odds of ties are rounded"


def test_which_images_are_right(outputs):
    logits, labels = outputs
    figures = evaluate(logits, labels, None, CLASSES, None)
    right = unpack_bits(figures["right"], len(labels))
    assert right.tolist() == logits.argmax(1).eq(labels).tolist()
    assert right.mean() == pytest.approx(figures["accuracy"], abs=1e-12)
    with pytest.raises(ValueError, match="bits for 300 values"):
        unpack_bits(figures["right"], 300)


def test_figures_on_resamples_are_those_of_the_images_drawn(outputs):
    logits, labels = outputs
    figures = evaluate(logits, labels, None, CLASSES, None)
    weights = _resamples(len(labels), len(CLASSES))[:, 1:].long()
    assert weights.shape == (200, RESAMPLES) and set(weights.sum(dim=0).tolist()) == {200}
    found = {name: unpack_floats(text) for name, text in figures["resampled"].items()}
    assert {name: len(each) for name, each in found.items()} == dict.fromkeys(
        ("macro_f1", "roc_auc", "calibration_error"), RESAMPLES
    )
    for draw in (0, 7, 63):
        rows = torch.arange(200).repeat_interleave(weights[:, draw])
        again = evaluate(logits[rows], labels[rows], None, CLASSES, None)
        for name, each in found.items():
            assert each[draw] == pytest.approx(again[name], abs=1e-6), name


def test_resamples_are_the_same_for_all_networks_of_a_test_split(outputs):
    logits, labels = outputs
    first, again = (evaluate(logits, labels, None, CLASSES, None)["resampled"] for _ in range(2))
    assert first == again
    other = evaluate(logits + 5, labels, None, CLASSES, None)["resampled"]
    assert other["macro_f1"] == first["macro_f1"], "the same predictions on the same draws"


def test_the_spread_over_resamples_is_that_of_new_images():
    """F1 and AUC of a bootstrap against those of test splits that are really drawn anew."""
    generator = torch.Generator().manual_seed(0)

    def split() -> dict:
        labels = torch.randint(5, (400,), generator=generator)
        logits = torch.randn(400, 5, generator=generator)
        logits[torch.arange(400), labels] += 1.5
        return evaluate(logits, labels, None, CLASSES, None)

    drawn = [split() for _ in range(60)]
    for name in ("macro_f1", "roc_auc"):
        spread = np.std([each[name] for each in drawn], ddof=1)
        resampled = np.mean([unpack_floats(each["resampled"][name]).std(ddof=1) for each in drawn])
        assert resampled == pytest.approx(spread, rel=0.3), name
