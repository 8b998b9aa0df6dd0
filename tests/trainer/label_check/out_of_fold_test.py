import numpy as np
import pytest

from trainer.label_check.out_of_fold import (
    NUM_FOLDS,
    Photographs,
    assign_folds,
    predict_out_of_fold,
)


def _make(*, per_class=30, num_classes=3, test_every=10, seed=0) -> Photographs:
    """Returns photographs that are easy to tell apart, each in a group of its own."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(num_classes), per_class)
    centres = 4 * rng.normal(size=(num_classes, 8))
    features = centres[labels] + rng.normal(size=(len(labels), 8))
    return Photographs(
        features=features.astype(np.float32),
        labels=labels,
        groups=[f"group {index}" for index in range(len(labels))],
        is_test=np.arange(len(labels)) % test_every == 0,
    )


def _replace(photographs, **changes) -> Photographs:
    return Photographs(**{**vars(photographs), **changes})


def _predict(photographs, num_classes=3):
    return predict_out_of_fold(photographs, num_classes=num_classes, seed=1)


def test_flipped_labels_get_the_least_probability_and_the_true_class_the_most():
    photographs = _make()
    true = photographs.labels
    flipped = np.array([4, 20, 40, 70])  # The second and the third are in test.
    labels = true.copy()
    labels[flipped] = (labels[flipped] + 1) % 3
    probabilities = _predict(_replace(photographs, labels=labels))
    assert np.allclose(probabilities.sum(axis=1), 1)
    scores = probabilities[np.arange(len(labels)), labels]
    assert set(np.argsort(scores)[:4].tolist()) == set(flipped.tolist())
    assert (probabilities.argmax(axis=1)[flipped] == true[flipped]).all()


def test_nothing_is_fitted_on_the_test_split():
    photographs = _make()
    wrong = np.where(photographs.is_test, 0, photographs.labels)
    before, after = (
        _predict(_replace(photographs, labels=labels))
        for labels in (photographs.labels, wrong)
    )
    np.testing.assert_array_equal(before, after)


def test_near_duplicates_share_a_fold_and_classes_are_spread_evenly():
    photographs = _make()
    groups = list(photographs.groups)
    groups[1:4] = ["one"] * 3
    folds = assign_folds(_replace(photographs, groups=groups), seed=1)
    assert len(set(folds[1:4].tolist())) == 1
    assert set(folds[photographs.is_test].tolist()) == {-1}
    for label in (1, 2):
        counts = np.bincount(
            folds[(photographs.labels == label) & ~photographs.is_test]
        )
        assert len(counts) == NUM_FOLDS
        assert counts.min() >= 5
        assert counts.max() <= 6


def test_two_groups_of_a_class_judge_each_other_and_one_group_is_not_judged():
    photographs = _make(per_class=12, num_classes=4, test_every=1000)
    keep = np.concatenate([np.arange(24), [24, 25], [36, 37]])
    few = Photographs(
        features=photographs.features[keep],
        labels=photographs.labels[keep],
        groups=[*(f"group {index}" for index in range(26)), "twins", "twins"],
        is_test=np.zeros(len(keep), bool),
    )
    probabilities = _predict(few, num_classes=4)
    assert np.isnan(probabilities).all(axis=1).tolist() == [False] * 26 + [True] * 2


@pytest.mark.parametrize(("num_classes", "per_class"), [(2, 20), (200, 3)])
def test_two_classes_and_two_hundred(num_classes, per_class):
    photographs = _make(num_classes=num_classes, per_class=per_class)
    probabilities = _predict(photographs, num_classes=num_classes)
    assert np.isfinite(probabilities).all()
    hits = probabilities.argmax(axis=1) == photographs.labels
    assert hits.mean() > 0.5


def test_too_few_photographs_are_an_error_of_one_line():
    photographs = _make(per_class=1, num_classes=2, test_every=1000)
    with pytest.raises(ValueError, match="Received: 1 photographs"):
        _predict(photographs, num_classes=2)
