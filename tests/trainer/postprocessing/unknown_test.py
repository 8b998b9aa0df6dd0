import numpy as np
import pytest
from scipy import special

from trainer.postprocessing import unknown


def _draw(rng, count, num_features=6):
    """Features that vary in two directions of the space, and a little in the others."""
    plane = rng.normal(size=(count, 2)) * 3
    noise = rng.normal(size=(count, num_features)) * 0.1
    return (np.pad(plane, ((0, 0), (0, num_features - 2))) + noise).astype("f4")


def test_what_leaves_the_space_of_the_training_has_a_higher_score():
    rng = np.random.default_rng(0)
    embeddings, kernel = _draw(rng, 300), rng.normal(size=(6, 3)).astype("f4")
    scorer = unknown.fit_scorer(embeddings, embeddings @ kernel)
    assert scorer.axes.shape == (2, 6)
    known = _draw(rng, 100)
    strange = known + np.array([0, 0, 0, 2, 0, 0], "f4")
    scores = [
        unknown.compute_unknown_score(scorer, each, each @ kernel).numpy()
        for each in (known, strange)
    ]
    assert scores[0].max() < scores[1].min()


def test_the_score_is_the_residual_less_the_energy_and_the_means_of_the_classes():
    rng = np.random.default_rng(1)
    embeddings, kernel = _draw(rng, 40), rng.normal(size=(6, 3)).astype("f4")
    logits = embeddings @ kernel
    scorer = unknown.fit_scorer(embeddings, logits)
    centred = embeddings - embeddings.mean(axis=0)
    residual = centred - centred @ scorer.axes.T @ scorer.axes
    lengths = np.linalg.norm(residual, axis=1)
    # On the training images both terms have the same mean.
    assert scorer.weight * lengths.mean() == pytest.approx(
        logits.max(axis=1).mean(), rel=1e-4
    )
    vim = scorer.weight * lengths - special.logsumexp(logits, axis=1)
    predicted = logits.argmax(axis=1)
    assert len(np.unique(predicted)) == 3
    means = np.array([vim[predicted == k].mean() for k in range(3)])
    np.testing.assert_allclose(scorer.class_scores, means, rtol=1e-4, atol=1e-4)
    wanted = vim - special.softmax(logits, axis=1) @ means
    found = unknown.compute_unknown_score(scorer, embeddings, logits)
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)


def test_two_equally_probable_classes_do_not_decide_by_rounding():
    rng = np.random.default_rng(2)
    embeddings, kernel = _draw(rng, 40), rng.normal(size=(6, 3)).astype("f4")
    scorer = unknown.fit_scorer(embeddings, embeddings @ kernel)
    assert np.ptp(scorer.class_scores) > 0.1
    logits = np.array([[2, 2 + 1e-6, 0], [2 + 1e-6, 2, 0]], "f4")
    assert logits.argmax(axis=1).tolist() == [1, 0]
    scores = unknown.compute_unknown_score(scorer, embeddings[[0, 0]], logits)
    assert abs(scores[0] - scores[1]) < 1e-5


def test_a_handful_of_images_gives_scores_that_do_not_show_rounding():
    rng = np.random.default_rng(4)
    embeddings = rng.normal(size=(5, 256)).astype("f4")
    logits = rng.normal(size=(5, 3)).astype("f4")
    scorer = unknown.fit_scorer(embeddings, logits)
    assert len(scorer.axes) == 4  # All that five images vary in: no distance is left.
    rounded = embeddings * np.float32(1 + 1e-6)
    scores = [
        unknown.compute_unknown_score(scorer, each, logits).numpy()
        for each in (embeddings, rounded)
    ]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-4)


def test_a_class_that_is_never_predicted_has_the_mean_of_all():
    rng = np.random.default_rng(3)
    embeddings = _draw(rng, 40)
    logits = rng.normal(size=(40, 3)).astype("f4") - np.array([0, 0, 50], "f4")
    scorer = unknown.fit_scorer(embeddings, logits)
    counts = np.bincount(logits.argmax(axis=1), minlength=3)
    assert counts[2] == 0
    mean = (counts[:2] * scorer.class_scores[:2]).sum() / 40
    assert scorer.class_scores[2] == pytest.approx(mean, rel=1e-4)


@pytest.mark.parametrize("count", [1, 2])
def test_one_image_or_equal_ones_give_finite_scores(count):
    embeddings, logits = np.ones((count, 6), "f4"), np.zeros((count, 3), "f4")
    scorer = unknown.fit_scorer(embeddings, logits)
    scores = unknown.compute_unknown_score(scorer, embeddings + 1, logits)
    assert np.isfinite(scores).all()


@pytest.mark.parametrize(
    ("count", "rate", "flagged"),
    [(100, 0.05, 4), (99, 0.05, 4), (39, 0.05, 1), (20, 0.05, 0), (10, 0.0, 0)],
)
def test_at_most_the_stated_share_of_validation_is_unknown(count, rate, flagged):
    scores = np.random.default_rng(2).permutation(count).astype("f4")
    threshold = unknown.fit_threshold(scores, rate)
    assert (scores > threshold).sum() == flagged


def test_images_are_chosen_evenly_and_small_classes_leave_their_room():
    labels = np.repeat([0, 1, 2], [10, 100, 200])
    order = np.random.default_rng(0).permutation(310)
    chosen = unknown.choose_fit_images(labels[order], 120)
    assert np.bincount(labels[order][chosen]).tolist() == [10, 55, 55]
    assert (np.diff(chosen) > 0).all()
    assert len(unknown.choose_fit_images(labels, 1000)) == 310
    # No class is without an image.
    assert len(unknown.choose_fit_images(np.arange(50), 20)) == 50


def test_the_score_of_two_training_images_is_no_matter_of_rounding():
    """One axis explains both, so their distances to it are 0 but for rounding."""
    rng = np.random.default_rng(5)
    embeddings = rng.normal(size=(2, 64)).astype(np.float32)
    logits = np.array([[1.0, -1.0], [-1.0, 1.0]], np.float32)
    scorer = unknown.fit_scorer(embeddings, logits)
    size = np.linalg.norm(embeddings - embeddings.mean(axis=0), axis=1).mean()
    assert scorer.weight == pytest.approx(1.0 / (0.01 * size), rel=1e-4)
