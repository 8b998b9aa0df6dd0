"""Computes the metrics of a set of logits: accuracy, AUC, calibration, per class."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np

_CALIBRATION_BINS = 10
# 95 % of a normal distribution are within this many standard deviations.
_NORMAL_95 = 1.96


class ClassMetrics(TypedDict):
    """The metrics of one class; ..._ci95: their 95 % intervals (Wilson).

    precision: of the examples that are predicted as the class; 0 without one, and the
      interval is then None. predicted_count: number of these examples.
    recall: of the examples of the class. count: number of these examples.
    """

    precision: float
    precision_ci95: list[float] | None
    predicted_count: int
    recall: float
    recall_ci95: list[float]
    f1: float
    count: int


class Figures(TypedDict):
    """The figures of each epoch, for one split.

    accuracy: fraction of correct predictions.
    balanced_accuracy: mean over the classes of the fraction that is correct (recall).
    macro_f1: mean over the classes of F1.
    loss: mean cross-entropy in nats.
    """

    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    loss: float


class Metrics(TypedDict):
    """The metrics of one evaluation, ready for JSON.

    accuracy: fraction of correct predictions; ci95: its 95 % interval.
    balanced_accuracy, macro_f1: see Figures; ..._ci95: their 95 % intervals.
    loss: mean cross-entropy in nats.
    count: number of examples.
    top_2_accuracy: fraction of examples whose class is among the two likeliest.
    auc: area under the ROC curve of each class against the rest; mean over the classes.
    calibration_error: expected calibration error over ten bins of equal width (Guo et
      al., 2017).
    per_class: class -> its metrics.
    confusion: number of examples by [true class][predicted class].
    """

    accuracy: float
    loss: float
    count: int
    ci95: list[float]
    balanced_accuracy: float
    balanced_accuracy_ci95: list[float]
    macro_f1: float
    macro_f1_ci95: list[float]
    top_2_accuracy: float
    auc: float
    calibration_error: float
    per_class: dict[str, ClassMetrics]
    confusion: list[list[int]]


def softmax(logits: np.ndarray) -> np.ndarray:
    """Returns the probabilities float64 [N, K] of logits float32 [N, K]."""
    from scipy import special

    return special.softmax(logits.astype(np.float64), axis=1)


def accuracy_and_loss(logits: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Returns the fraction of correct predictions and the mean cross-entropy in nats.

    logits: float32 [N, K]; labels: int [N].
    """
    from scipy import special

    correct = logits.argmax(axis=1) == labels
    log_probabilities = special.log_softmax(logits.astype(np.float64), axis=1)
    losses = -log_probabilities[np.arange(len(labels)), labels]
    return float(correct.mean()), float(losses.mean())


def compute_figures(logits: np.ndarray, labels: np.ndarray) -> Figures:
    """Computes the figures of one split; classes without an image do not count.

    logits: float32 [N, K]; labels: int [N].
    """
    from sklearn import metrics as sklearn_metrics

    accuracy, loss = accuracy_and_loss(logits, labels)
    _, recalls, f1s, _ = sklearn_metrics.precision_recall_fscore_support(
        labels, logits.argmax(axis=1), labels=np.unique(labels), zero_division=0.0
    )
    return Figures(
        accuracy=accuracy,
        balanced_accuracy=float(np.mean(recalls)),
        macro_f1=float(np.mean(f1s)),
        loss=loss,
    )


def confidence_interval(correct: int, count: int) -> tuple[float, float]:
    """Returns the 95 % interval of an accuracy (Wilson, 1927).

    correct, count: numbers of correct predictions and of examples.
    """
    from scipy import stats

    interval = stats.binomtest(correct, count).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def format_share(value: float, ci95: Sequence[float] | None, count: int) -> str:
    """Returns a share of images, with its 95 % interval and their number, as text.

    ci95: None without an image.
    """
    if ci95 is None:
        return "no image"
    return f"{value:.3f} [{ci95[0]:.3f}, {ci95[1]:.3f}] of {count}"


def balanced_accuracy_interval(confusion: np.ndarray) -> tuple[float, float]:
    """Returns the 95 % interval of a balanced accuracy.

    Wilson's intervals of the recalls are combined to the interval of their mean (Zou,
    Huang and Zhang, 2009, "A note on confidence interval estimation for a linear
    function of binomial proportions").

    confusion: int [K, K], [true][predicted]; every class occurs.
    """
    correct, counts = np.diag(confusion), confusion.sum(axis=1)
    recalls = correct / counts
    intervals = np.array(list(map(confidence_interval, correct, counts)))
    below, above = np.sqrt(((intervals.T - recalls) ** 2).sum(axis=1)) / len(counts)
    return float(recalls.mean() - below), float(recalls.mean() + above)


def macro_f1_interval(confusion: np.ndarray) -> tuple[float, float]:
    """Returns the 95 % interval of a macro F1.

    It is that of the delta method, for rows that are multinomial samples (Takahashi et
    al., 2022, "Confidence interval for micro-averaged F1 and macro-averaged F1
    scores"). The variance is taken after two more images of each class, spread evenly,
    so that it is not zero without a mistake. In simulations it covered 94 % to 99 %.

    confusion: int [K, K], [true][predicted]; every class occurs.
    """
    counts = confusion.sum(axis=1)
    shares = (confusion + 2 / len(counts)) / (counts + 2)[:, None]
    expected = shares * counts[:, None]
    correct, sizes = np.diag(expected), counts + expected.sum(axis=0)
    # The derivatives of the mean of 2 * correct / sizes by each cell.
    gradient = np.diag(2 / sizes) - 2 * correct / sizes**2
    gradient /= len(counts)
    means = (shares * gradient).sum(axis=1)
    variance = (counts * ((shares * gradient**2).sum(axis=1) - means**2)).sum()
    estimate = (2 * np.diag(confusion) / (counts + confusion.sum(axis=0))).mean()
    half = _NORMAL_95 * np.sqrt(variance)
    return float(max(0.0, estimate - half)), float(min(1.0, estimate + half))


def compute_metrics(
    logits: np.ndarray, labels: np.ndarray, classes: Sequence[str]
) -> Metrics:
    """Computes all metrics of one evaluation.

    Args:
      logits: float32 [N, K].
      labels: int [N]; every class occurs.
      classes: the K names.
    """
    from sklearn import metrics as sklearn_metrics

    class_ids = range(len(classes))
    predicted = logits.argmax(axis=1)
    probabilities = softmax(logits)
    figures = compute_figures(logits, labels)
    confusion = sklearn_metrics.confusion_matrix(labels, predicted, labels=class_ids)
    precisions, recalls, f1s, counts = sklearn_metrics.precision_recall_fscore_support(
        labels, predicted, labels=class_ids, zero_division=0.0
    )
    # One class at a time: scikit-learn's own loop over the classes refuses rows that do
    # not add up to 1 exactly enough, and rounded probabilities may not.
    aucs = [
        sklearn_metrics.roc_auc_score(labels == k, probabilities[:, k])
        for k in class_ids
    ]
    # Not top_k_accuracy_score, which refuses two classes and k = 2.
    top_2 = np.argsort(-logits, axis=1)[:, :2]
    num_correct = int((predicted == labels).sum())
    return Metrics(
        accuracy=figures["accuracy"],
        loss=figures["loss"],
        count=len(labels),
        ci95=list(confidence_interval(num_correct, len(labels))),
        balanced_accuracy=figures["balanced_accuracy"],
        balanced_accuracy_ci95=list(balanced_accuracy_interval(confusion)),
        macro_f1=figures["macro_f1"],
        macro_f1_ci95=list(macro_f1_interval(confusion)),
        top_2_accuracy=float((top_2 == labels[:, None]).any(axis=1).mean()),
        auc=float(np.mean(aucs)),
        calibration_error=_calibration_error(probabilities, labels),
        per_class={
            name: ClassMetrics(
                precision=float(precisions[k]),
                precision_ci95=list(confidence_interval(right, as_class))
                if as_class
                else None,
                predicted_count=as_class,
                recall=float(recalls[k]),
                recall_ci95=list(confidence_interval(right, int(counts[k]))),
                f1=float(f1s[k]),
                count=int(counts[k]),
            )
            for k, (name, right, as_class) in enumerate(
                zip(
                    classes,
                    np.diag(confusion).tolist(),
                    confusion.sum(axis=0).tolist(),
                    strict=True,
                )
            )
        },
        confusion=confusion.tolist(),
    )


def _calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Averages |accuracy - confidence| over bins of equal width of the confidence."""
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
