"""What a set of logits is worth: accuracy, AUC, per-class figures, calibration."""

from collections.abc import Sequence

import numpy as np

_CALIBRATION_BINS = 10


def softmax(logits: np.ndarray) -> np.ndarray:
    """float32 [N, K] -> float64 probabilities [N, K]."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def accuracy_and_loss(logits: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """logits [N, K], labels int [N] -> (share correct, mean cross-entropy in nats)."""
    correct = logits.argmax(axis=1) == labels
    largest = logits.max(axis=1, keepdims=True).astype(np.float64)
    log_sum = largest[:, 0] + np.log(np.exp(logits - largest).sum(axis=1))
    loss = log_sum - logits[np.arange(len(labels)), labels]
    return float(correct.mean()), float(loss.mean())


def confidence_interval(correct: int, count: int) -> tuple[float, float]:
    """95 % interval of an accuracy from count independent examples (Wilson, 1927)."""
    from scipy import stats

    interval = stats.binomtest(correct, count).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def compute_metrics(
    logits: np.ndarray, labels: np.ndarray, classes: Sequence[str]
) -> dict[str, object]:
    """All figures of one evaluation, ready for JSON.

    Args:
      logits: float32 [N, K].
      labels: int [N]; every class occurs.
      classes: the K names.

    Returns:
      accuracy with count and ci95, loss (nats), top_2_accuracy, auc (one class against
      the rest, mean over classes), per_class (precision, recall, f1, count),
      confusion ([true][predicted] counts), calibration_error (expected calibration
      error over ten bins of equal width; Guo et al., 2017).
    """
    from sklearn import metrics

    numbers = range(len(classes))
    predicted = logits.argmax(axis=1)
    probabilities = softmax(logits)
    accuracy, loss = accuracy_and_loss(logits, labels)
    per_class = metrics.precision_recall_fscore_support(
        labels, predicted, labels=numbers, zero_division=0.0
    )
    aucs = [metrics.roc_auc_score(labels == k, probabilities[:, k]) for k in numbers]
    top_2 = np.argsort(-logits, axis=1)[:, :2]
    return {
        "accuracy": accuracy,
        "loss": loss,
        "count": len(labels),
        "ci95": list(
            confidence_interval(int((predicted == labels).sum()), len(labels))
        ),
        "top_2_accuracy": float((top_2 == labels[:, None]).any(axis=1).mean()),
        "auc": float(np.mean(aucs)),
        "calibration_error": _calibration_error(probabilities, labels),
        "per_class": {
            name: {
                "precision": float(precision),
                "recall": float(recall),
                "f1": float(f1),
                "count": int(count),
            }
            for name, precision, recall, f1, count in zip(
                classes, *per_class, strict=True
            )
        },
        "confusion": metrics.confusion_matrix(
            labels, predicted, labels=numbers
        ).tolist(),
    }


def _calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    bins = np.minimum(
        (confidence * _CALIBRATION_BINS).astype(int), _CALIBRATION_BINS - 1
    )
    gaps = [
        abs(correct[bins == b].mean() - confidence[bins == b].mean())
        * (bins == b).mean()
        for b in np.unique(bins)
    ]
    return float(sum(gaps))
