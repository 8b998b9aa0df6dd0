import numpy as np
import pytest

from trainer.evaluation import metrics

CLASSES = ("a", "b", "c")


def test_accuracy_and_loss_by_hand():
    logits = np.log(np.array([[0.7, 0.2, 0.1], [0.3, 0.6, 0.1]], np.float32))
    accuracy, loss = metrics.accuracy_and_loss(logits, np.array([0, 0]))
    assert accuracy == 0.5
    assert loss == pytest.approx(-(np.log(0.7) + np.log(0.3)) / 2, rel=1e-6)


def test_large_logits_do_not_overflow():
    logits = np.array([[1000.0, -1000.0, 0.0]], np.float32)
    accuracy, loss = metrics.accuracy_and_loss(logits, np.array([1]))
    assert (accuracy, loss) == (0.0, 2000.0)
    np.testing.assert_array_equal(metrics.softmax(logits), [[1, 0, 0]])


def test_the_interval_is_wilsons():
    # Newcombe, Statistics in Medicine 17 (1998), table I: 81 of 263.
    low, high = metrics.confidence_interval(81, 263)
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    assert metrics.confidence_interval(10, 10)[1] == 1.0


def _plain_loss(logits, labels):
    """Mean cross-entropy by a shifted sum of exponentials."""
    largest = logits.max(axis=1, keepdims=True).astype(np.float64)
    log_sum = largest[:, 0] + np.log(np.exp(logits - largest).sum(axis=1))
    return (log_sum - logits[np.arange(len(labels)), labels]).mean()


@pytest.mark.parametrize("num_classes", [2, 3, 7])
def test_scipy_gives_what_the_plain_arithmetic_gives(num_classes):
    rng = np.random.default_rng(num_classes)
    logits = rng.normal(0, 5, (200, num_classes)).astype(np.float32)
    labels = np.arange(200) % num_classes
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(
        metrics.softmax(logits), probabilities, rtol=0, atol=1e-12
    )
    accuracy, loss = metrics.accuracy_and_loss(logits, labels)
    assert loss == pytest.approx(_plain_loss(logits, labels), abs=1e-12)
    names = [f"class {k}" for k in range(num_classes)]
    described = metrics.compute_metrics(logits, labels, names)
    assert (described["accuracy"], described["loss"]) == (accuracy, loss)
    order = np.argsort(-probabilities, axis=1)[:, :2]
    assert described["top_2_accuracy"] == np.mean(
        [label in row for label, row in zip(labels, order, strict=True)]
    )
    # The share of pairs (one of the class, one of another) in the right order.
    aucs = []
    for k in range(num_classes):
        own, other = probabilities[labels == k, k], probabilities[labels != k, k]
        differences = own[:, None] - other
        aucs.append(np.mean(differences > 0) + np.mean(differences == 0) / 2)
    assert described["auc"] == pytest.approx(np.mean(aucs), abs=1e-12)


def test_description_by_hand():
    probabilities = np.array(
        [
            [0.9, 0.05, 0.05],
            [0.8, 0.1, 0.1],
            [0.4, 0.5, 0.1],
            [0.1, 0.6, 0.3],
            [0.2, 0.1, 0.7],
        ]
    )
    labels = np.array([0, 0, 0, 1, 2])
    found = metrics.compute_metrics(
        np.log(probabilities).astype(np.float32), labels, CLASSES
    )
    assert found["accuracy"] == 0.8
    assert found["count"] == 5
    assert found["confusion"] == [[2, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert found["top_2_accuracy"] == 1.0
    assert found["auc"] == 1.0
    assert found["per_class"]["a"] == {
        "precision": 1.0,
        "precision_ci95": list(metrics.confidence_interval(2, 2)),
        "predicted_count": 2,
        "recall": pytest.approx(2 / 3),
        "recall_ci95": list(metrics.confidence_interval(2, 3)),
        "f1": pytest.approx(0.8),
        "count": 3,
    }
    assert found["per_class"]["b"]["precision"] == 0.5
    assert found["per_class"]["b"]["precision_ci95"] == list(
        metrics.confidence_interval(1, 2)
    )
    # One image in each bin: the gaps are 0.1, 0.2, 0.5, 0.4 and 0.3.
    assert found["calibration_error"] == pytest.approx(1.5 / 5, rel=1e-5)
    assert found["ci95"] == list(metrics.confidence_interval(4, 5))


def test_a_class_that_is_never_predicted_has_no_interval_of_precision():
    labels = np.array([0, 1, 2])
    logits = np.eye(3, dtype=np.float32)[[0, 1, 1]]
    figures = metrics.compute_metrics(logits, labels, CLASSES)["per_class"]["c"]
    assert figures["predicted_count"] == 0
    assert figures["precision_ci95"] is None
    assert figures["recall_ci95"] == list(metrics.confidence_interval(0, 1))
    assert metrics.format_share(0.0, figures["precision_ci95"], 0) == "no image"
    assert metrics.format_share(0.5, [0.25, 0.75], 4) == "0.500 [0.250, 0.750] of 4"


def test_balanced_figures_by_hand():
    # Class 0: 8 of 8 right; class 1: 1 of 2 right, the other one taken for 0.
    labels = np.array([0] * 8 + [1] * 2)
    logits = np.eye(3, dtype=np.float32)[[0] * 8 + [1, 0]]
    figures = metrics.compute_figures(logits, labels)
    assert figures["accuracy"] == 0.9
    assert figures["balanced_accuracy"] == pytest.approx((1 + 1 / 2) / 2)
    # F1 of class 0: 2 * 8 / (8 + 9); of class 1: 2 * 1 / (2 + 1).
    assert figures["macro_f1"] == pytest.approx((16 / 17 + 2 / 3) / 2)


def test_the_interval_of_a_balanced_accuracy_has_the_parts_of_its_classes():
    confusion = np.array([[81, 182], [0, 10]])
    low, high = metrics.balanced_accuracy_interval(confusion)
    estimates = np.array([81 / 263, 1.0])
    limits = np.array([(0.2553, 0.3662), metrics.confidence_interval(10, 10)])
    below, above = estimates - limits[:, 0], limits[:, 1] - estimates
    assert low == pytest.approx(estimates.mean() - np.hypot(*below) / 2, abs=1e-4)
    assert high == pytest.approx(estimates.mean() + np.hypot(*above) / 2, abs=1e-4)


@pytest.mark.parametrize(
    ("truth", "counts"),
    [
        ([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.05, 0.05, 0.9]], [30, 12, 60]),
        ([[0.97, 0.03], [0.3, 0.7]], [100, 10]),
        ((0.75 * np.eye(5) + 0.05).tolist(), [40, 20, 10, 5, 3]),
    ],
)
def test_the_intervals_cover_what_they_estimate(truth, counts):
    """In 95 % of samples, within what 400 samples can tell."""
    rng = np.random.default_rng(0)
    shares = np.array(truth)
    expected = shares * np.array(counts)[:, None]
    sizes = expected.sum(axis=1) + expected.sum(axis=0)
    true_f1 = (2 * np.diag(expected) / sizes).mean()
    true_recall = np.diag(shares).mean()
    covered = []
    for _ in range(400):
        rows = [rng.multinomial(n, row) for n, row in zip(counts, shares, strict=True)]
        low, high = metrics.balanced_accuracy_interval(np.stack(rows))
        f1_low, f1_high = metrics.macro_f1_interval(np.stack(rows))
        covered.append([low <= true_recall <= high, f1_low <= true_f1 <= f1_high])
    assert (np.mean(covered, axis=0) > 0.925).all()
    assert (np.mean(covered, axis=0) < 0.99).all()


def test_no_mistake_leaves_room_for_one():
    low, high = metrics.macro_f1_interval(np.diag([10, 10]))
    assert 0.75 < low < 0.95
    assert high == 1.0
