import numpy as np
import pytest
from mapie.classification import SplitConformalClassifier
from sklearn.base import BaseEstimator, ClassifierMixin

from trainer.postprocessing.prediction_sets import fit_min_probability, smallest_count


class _Known(ClassifierMixin, BaseEstimator):
    """A fitted classifier of scikit-learn, whose input are the probabilities."""

    def __init__(self, num_classes=5):
        self.num_classes = num_classes

    def fit(self, inputs, labels):
        self.classes_ = np.arange(self.num_classes)
        return self

    def predict_proba(self, inputs):
        return inputs

    def predict(self, inputs):
        return inputs.argmax(axis=1)


def _draw(seed, count):
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(5, 0.5), count)
    labels = (probabilities.cumsum(axis=1) < rng.random((count, 1))).sum(axis=1)
    return probabilities, labels


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
@pytest.mark.parametrize("count", [39, 80, 500])
def test_the_sets_are_those_of_mapie(coverage, count):
    probabilities, labels = _draw(count, count)
    new, _ = _draw(7, 200)
    mapie = SplitConformalClassifier(
        _Known().fit(None, None),
        confidence_level=coverage,
        conformity_score="lac",
        prefit=True,
    )
    mapie.conformalize(probabilities, labels)
    _, sets = mapie.predict_set(new)
    threshold = fit_min_probability(probabilities, labels, coverage)
    np.testing.assert_array_equal(new >= threshold, sets[:, :, 0])


@pytest.mark.parametrize("count", [9, 19, 50])
def test_sets_hold_the_true_class_as_often_as_they_should(count):
    covered = []
    for seed in range(400):
        probabilities, labels = _draw([seed, 0], count)
        threshold = fit_min_probability(probabilities, labels, 0.9)
        new, true = _draw([seed, 1], 50)
        covered.append((new[np.arange(50), true] >= threshold).mean())
    expected = np.ceil((count + 1) * 0.9 - 1e-9) / (count + 1)
    standard_error = np.std(covered) / np.sqrt(len(covered))
    assert abs(np.mean(covered) - expected) < 4 * standard_error


def test_too_few_images_give_sets_of_all_classes():
    assert [smallest_count(coverage) for coverage in (0.5, 0.9, 0.95, 0.99)] == [
        *(1, 9, 19, 99)
    ]
    probabilities, labels = _draw(1, 9)
    assert fit_min_probability(probabilities[:8], labels[:8], 0.9) == 0.0
    assert fit_min_probability(probabilities, labels, 0.9) == pytest.approx(
        probabilities[np.arange(9), labels].min()
    )
