"""Figures of the test split against scikit-learn and formulas in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp
from sklearn import metrics

from kdsweep.results.network import Evaluation
from kdsweep.results.packed import unpack_bits, unpack_floats
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
    assert figures.accuracy == pytest.approx(metrics.accuracy_score(truth, predicted))
    assert figures.macro_f1 == pytest.approx(metrics.f1_score(truth, predicted, average="macro"), abs=1e-6)
    assert figures.roc_auc == pytest.approx(
        metrics.roc_auc_score(truth, probabilities, multi_class="ovr"), abs=1e-6
    )
    assert figures.cross_entropy == pytest.approx(metrics.log_loss(truth, probabilities), abs=1e-6)
    assert figures.confusion == metrics.confusion_matrix(truth, predicted).tolist()
    assert figures.agreement is None and figures.f1 is None
    recalls = metrics.recall_score(truth, predicted, average=None)
    assert figures.class_accuracy == pytest.approx(dict(zip(CLASSES, recalls, strict=True)))


@pytest.mark.parametrize("positive", [0, 1])
def test_figures_of_two_classes_are_of_the_positive_one(positive):
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(90) % 3 // 2
    logits = torch.randn(90, 2, generator=generator)
    logits[torch.arange(90), labels] += 0.7
    figures = evaluate(logits, labels, None, ("healthy", "ill"), positive)
    probabilities = torch.softmax(logits.double(), 1).numpy()
    truth, predicted = labels.numpy(), probabilities.argmax(1)
    assert figures.positive_class == ("healthy", "ill")[positive]
    assert figures.f1 == pytest.approx(metrics.f1_score(truth, predicted, pos_label=positive), abs=1e-6)
    scores = metrics.roc_auc_score(truth == positive, probabilities[:, positive])
    assert figures.roc_auc == pytest.approx(scores, abs=1e-6)
    assert figures.roc_auc != pytest.approx(
        metrics.roc_auc_score(truth == positive, predicted == positive), abs=1e-3
    ), "from scores, not from predicted labels"


def odds(logits: torch.Tensor, one: int) -> np.ndarray:
    exact = logits.double().numpy()
    return exact[:, one] - logsumexp(np.delete(exact, one, axis=1), axis=1)


@pytest.mark.parametrize("factor", [1, 10, 20, 40])
@pytest.mark.parametrize("classes", [2, 5])
def test_the_area_does_not_suffer_from_how_sure_a_network_is(factor, classes):
    """By float32's probabilities up to a sixth of the scores were 1 and tied."""
    generator = torch.Generator().manual_seed(2)
    labels = torch.arange(400) % classes
    logits = torch.randn(400, classes, generator=generator)
    logits[torch.arange(400), labels] += 0.5
    logits = factor * logits
    each = [metrics.roc_auc_score(labels == one, odds(logits, one)) for one in range(classes)]
    figures = evaluate(logits, labels, None, CLASSES[:classes], 1 if classes == 2 else None)
    assert figures.roc_auc == pytest.approx(np.mean(each), abs=1e-12)
    if factor == 40:
        saturated = torch.softmax(logits, 1)
        worse = [metrics.roc_auc_score(labels == one, saturated[:, one]) for one in range(classes)]
        assert figures.roc_auc != pytest.approx(np.mean(worse), abs=1e-5)


small = st.integers(-3, 3)


@given(st.lists(st.tuples(small, small, st.booleans()), min_size=2, max_size=20), st.integers(1, 50))
def test_equal_scores_count_half(rows, factor):
    *columns, labels = (torch.tensor(each) for each in zip(*rows, strict=True))
    labels = labels.long()
    logits = factor * torch.stack(columns, dim=1).float()
    figures = evaluate(logits, labels, None, ("healthy", "ill"), 1)
    if len(set(labels.tolist())) == 1:
        assert figures.roc_auc is None
    else:
        expected = metrics.roc_auc_score(labels, logits[:, 1] - logits[:, 0])
        assert figures.roc_auc == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("factor", [1, 40])
def test_the_other_figures_do_not_either(outputs, factor):
    logits, labels = factor * outputs[0], outputs[1]
    exact, truth = logits.double().numpy(), labels.numpy()
    figures = evaluate(logits, labels, None, CLASSES, None)
    entropy = (logsumexp(exact, axis=1) - exact[np.arange(200), truth]).mean()
    assert figures.cross_entropy == pytest.approx(entropy, rel=1e-12)
    f1 = metrics.f1_score(truth, exact.argmax(1), average="macro")
    assert figures.macro_f1 == pytest.approx(f1, rel=1e-12)
    right = exact.argmax(1) == truth
    confidence = np.exp(exact - logsumexp(exact, axis=1, keepdims=True)).max(1)
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    gaps = [abs((right[bins == i] - confidence[bins == i]).sum()) for i in range(CALIBRATION_BINS)]
    assert figures.calibration_error == pytest.approx(sum(gaps) / 200, rel=1e-12)


def test_macro_f1_is_of_the_classes_that_occur_or_are_predicted():
    predicted, labels = torch.tensor([0, 1, 1, 0]), torch.tensor([0, 1, 2, 2])
    figures = evaluate(10 * torch.eye(5)[predicted], labels, None, CLASSES, None)
    assert figures.macro_f1 == pytest.approx(metrics.f1_score(labels, predicted, average="macro"))
    assert evaluate(torch.eye(2)[[0, 0]], torch.tensor([0, 0]), None, CLASSES[:2], 1).f1 == 0


def test_calibration_error_is_guos(outputs):
    logits, labels = outputs
    probabilities = torch.softmax(logits.double(), 1).numpy()
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels.numpy()
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    expected = sum(
        (bins == i).mean() * abs(right[bins == i].mean() - confidence[bins == i].mean())
        for i in np.unique(bins)
    )
    assert evaluate(logits, labels, None, CLASSES, None).calibration_error == pytest.approx(
        expected, abs=1e-5
    )


def test_the_calibration_error_is_that_of_the_bins(outputs):
    logits, labels = outputs
    logits[:20] *= 100  # confidences of exactly 1, right ones and wrong ones: of the last bin, as others are
    figures = evaluate(logits, labels, None, CLASSES, None)
    confidence = torch.softmax(logits, 1).max(1).values
    assert confidence.eq(1).any()
    bins = figures.calibration
    assert {len(each) for each in vars(bins).values()} == {CALIBRATION_BINS}
    assert sum(bins.count) == len(labels)
    for i, (count, sure, right) in enumerate(zip(bins.count, bins.confidence, bins.accuracy, strict=True)):
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
        for count, sure, right in zip(bins.count, bins.confidence, bins.accuracy, strict=True)
        if count
    ]
    assert figures.calibration_error == pytest.approx(sum(gaps), abs=1e-12)


def test_agreement_is_the_share_of_equal_predictions(outputs):
    logits, labels = outputs
    other = logits.flip(0)
    expected = (logits.argmax(1) == other.argmax(1)).double().mean().item()
    assert evaluate(logits, labels, other, CLASSES, None).agreement == pytest.approx(expected)


def test_a_class_without_test_images_is_left_out_of_the_area(outputs):
    logits, labels = outputs
    kept = labels != 4
    logits, labels = logits[kept], labels[kept]
    probabilities = torch.softmax(logits, 1)
    each = [metrics.roc_auc_score(labels == c, probabilities[:, c]) for c in range(4)]
    assert evaluate(logits, labels, None, CLASSES, None).roc_auc == pytest.approx(np.mean(each), abs=1e-6)
    assert evaluate(logits[:1], labels[:1], None, CLASSES, None).roc_auc is None


def test_which_images_are_right(outputs):
    logits, labels = outputs
    figures = evaluate(logits, labels, None, CLASSES, None)
    right = unpack_bits(figures.right, len(labels))
    assert right.tolist() == logits.argmax(1).eq(labels).tolist()
    assert right.mean() == pytest.approx(figures.accuracy, abs=1e-12)
    with pytest.raises(ValueError, match="bits for 300 values"):
        unpack_bits(figures.right, 300)


def test_figures_on_resamples_are_those_of_the_images_drawn(outputs):
    logits, labels = outputs
    figures = evaluate(logits, labels, None, CLASSES, None)
    weights = _resamples(len(labels), len(CLASSES))[:, 1:].long()
    assert weights.shape == (200, RESAMPLES) and set(weights.sum(dim=0).tolist()) == {200}
    found = {name: unpack_floats(text) for name, text in figures.resampled.items()}
    assert {name: len(each) for name, each in found.items()} == dict.fromkeys(
        ("macro_f1", "roc_auc", "calibration_error"), RESAMPLES
    )
    for draw in (0, 7, 63):
        rows = torch.arange(200).repeat_interleave(weights[:, draw])
        again = evaluate(logits[rows], labels[rows], None, CLASSES, None)
        for name, each in found.items():
            assert each[draw] == pytest.approx(getattr(again, name), abs=1e-6), name


def test_resamples_are_the_same_for_all_networks_of_a_test_split(outputs):
    logits, labels = outputs
    first, again = (evaluate(logits, labels, None, CLASSES, None).resampled for _ in range(2))
    assert first == again
    other = evaluate(logits + 5, labels, None, CLASSES, None).resampled
    assert other["macro_f1"] == first["macro_f1"], "the same predictions on the same draws"


def test_the_spread_over_resamples_is_that_of_new_images():
    """F1 and AUC of a bootstrap against those of test splits that are really drawn anew."""
    generator = torch.Generator().manual_seed(0)

    def split() -> Evaluation:
        labels = torch.randint(5, (400,), generator=generator)
        logits = torch.randn(400, 5, generator=generator)
        logits[torch.arange(400), labels] += 1.5
        return evaluate(logits, labels, None, CLASSES, None)

    drawn = [split() for _ in range(60)]
    for name in ("macro_f1", "roc_auc"):
        spread = np.std([getattr(each, name) for each in drawn], ddof=1)
        resampled = np.mean([unpack_floats(each.resampled[name]).std(ddof=1) for each in drawn])
        assert resampled == pytest.approx(spread, rel=0.3), name
