import numpy as np
import pytest

from trainer.label_check.ranking import LabelIssue, rank


def test_the_least_probable_label_comes_first():
    labels = np.array([0, 1, 2, 0])
    probabilities = np.array(
        [[0.7, 0.2, 0.1], [0.8, 0.15, 0.05], [np.nan] * 3, [0.3, 0.25, 0.45]]
    )
    ranked = rank(labels, probabilities)
    assert ranked.issues == [
        LabelIssue(1, label=1, suggested=0, score=0.15, suggested_score=0.8),
        LabelIssue(3, label=0, suggested=2, score=0.3, suggested_score=0.45),
        LabelIssue(0, label=0, suggested=1, score=0.7, suggested_score=0.2),
    ]
    assert ranked.not_judged == [2]


def test_the_number_of_wrong_labels_is_estimated():
    rng = np.random.default_rng(0)
    true = rng.integers(0, 4, 400)
    labels = true.copy()
    labels[:20] = (labels[:20] + 1) % 4
    probabilities = np.full((400, 4), 0.03)
    probabilities[np.arange(400), true] = 0.91
    ranked = rank(labels, probabilities)
    assert ranked.estimated_errors == 20
    assert {issue.position for issue in ranked.issues[:20]} == set(range(20))


def test_poor_predictions_are_a_warning():
    labels = np.arange(40) % 4
    probabilities = np.full((40, 4), 0.1)
    probabilities[np.arange(40), (labels + (np.arange(40) < 20)) % 4] = 0.7
    assert rank(labels, probabilities).warning is None
    probabilities[20] = [0.1, 0.7, 0.1, 0.1]
    message = rank(labels, probabilities).warning
    assert message.startswith("The predictions disagree with 21 of 40 labels.")


@pytest.mark.parametrize("num_classes", [2, 200])
def test_classes_without_a_photograph_are_no_problem(num_classes):
    labels = np.array([0, 0, 1, 1])
    probabilities = np.random.default_rng(1).dirichlet(np.ones(num_classes), 4)
    assert len(rank(labels, probabilities).issues) == 4


def test_nothing_that_can_be_judged_gives_an_empty_ranking():
    ranked = rank(np.array([0, 1]), np.full((2, 2), np.nan))
    assert (ranked.issues, ranked.estimated_errors, ranked.not_judged) == (
        [],
        0,
        [0, 1],
    )
