import numpy as np
import pytest
from scipy import special, stats

from export.drift_check import two_sample


def test_the_discrepancy_is_that_of_its_definition():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(9, 3))
    kernel = np.exp(-((points[:, None] - points[None]) ** 2).sum(axis=2))
    is_new = np.array([[0] * 5 + [1] * 4, [1, 1, 0, 0, 0, 0, 0, 1, 1]], np.float32)
    discrepancies = two_sample._mean_discrepancies(kernel.astype(np.float32), is_new)
    for row, discrepancy in zip(is_new.astype(bool), discrepancies, strict=True):
        expected = (
            kernel[row][:, row].mean()
            + kernel[~row][:, ~row].mean()
            - 2 * kernel[row][:, ~row].mean()
        )
        assert discrepancy == pytest.approx(expected, rel=1e-5)


def test_the_kernel_is_half_of_e_at_the_median_distance():
    kernel = two_sample._compute_kernel(np.array([[0.0], [1.0], [3.0]]))
    # The squared distances are 1, 9 and 4; their median is 4.
    expected = np.exp(-np.array([[0, 1, 9], [1, 0, 4], [9, 4, 0]]) / 4)
    np.testing.assert_allclose(kernel, expected, rtol=1e-6)


def test_a_shift_of_the_embeddings_has_the_least_p_value():
    rng = np.random.default_rng(0)
    p_value = two_sample.kernel_p_value(
        rng.normal(0, 1, (60, 5)), rng.normal(1, 1, (30, 5)), rng
    )
    assert p_value == 1 / (1 + two_sample.PERMUTATIONS)


def test_equal_embeddings_show_nothing():
    points = np.ones((20, 3))
    assert two_sample.kernel_p_value(points, points, np.random.default_rng(0)) == 1


def test_columns_get_the_deviation_1_in_both_samples_together():
    reference, new = np.array([[0.0, 5], [10, 5]]), np.array([[20.0, 5], [30, 5]])
    scaled = np.concatenate(two_sample.standardise(reference, new))
    assert scaled.std(axis=0).tolist() == pytest.approx([1, 0])
    assert scaled[3, 0] - scaled[0, 0] == pytest.approx(30 / np.sqrt(125))


def test_of_large_samples_a_part_is_compared(monkeypatch):
    monkeypatch.setattr(two_sample, "MAX_ROWS", 20)
    rng = np.random.default_rng(0)
    assert two_sample._thin_out(np.arange(50).reshape(50, 1), rng).shape == (20, 1)
    assert len(np.unique(two_sample._thin_out(np.arange(50), rng))) == 20
    p_value = two_sample.kernel_p_value(
        rng.normal(0, 1, (60, 5)), rng.normal(3, 1, (30, 5)), rng
    )
    assert p_value == 1 / (1 + two_sample.PERMUTATIONS)


def test_the_p_values_of_unchanged_samples_are_uniform(monkeypatch):
    monkeypatch.setattr(two_sample, "PERMUTATIONS", 99)
    rng = np.random.default_rng(1)
    kernel_p_values, share_p_values, missing_p_values = [], [], []
    for _ in range(400):
        pooled = rng.normal(size=(36, 4))
        kernel_p_values.append(two_sample.kernel_p_value(pooled[:24], pooled[24:], rng))
        probabilities = special.softmax(3 * pooled, axis=1)
        missing_p_values.append(
            two_sample.missing_class_p_value(
                probabilities[:24], probabilities[24:], rng
            )
        )
        counts = [
            np.bincount(rng.integers(0, 4, size), minlength=4) for size in (60, 30)
        ]
        share_p_values.append(two_sample.class_share_p_value(*counts, rng))
    # At most 0.0001 of all seeds would fail here.
    for p_values in (kernel_p_values, missing_p_values):
        assert stats.kstest(p_values, "uniform").pvalue > 1e-4
    for p_values in (kernel_p_values, share_p_values, missing_p_values):
        alarms = int((np.array(p_values) <= 0.1).sum())
        assert stats.binomtest(alarms, 400, 0.1, "greater").pvalue > 1e-4


def test_class_shares_agree_with_chi_squared():
    reference, new = np.array([40, 30, 30, 0]), np.array([10, 20, 20, 0])
    table = np.stack([reference, new])[:, :3]
    expected = stats.chi2_contingency(table, correction=False).pvalue
    p_value = two_sample.class_share_p_value(reference, new, np.random.default_rng(0))
    assert p_value == pytest.approx(expected, abs=0.02)


def test_classes_that_are_all_one_show_nothing():
    rng = np.random.default_rng(0)
    assert two_sample.class_share_p_value(np.array([9, 0]), np.array([5, 0]), rng) == 1
    p_value = two_sample.class_share_p_value(np.array([30, 0]), np.array([0, 30]), rng)
    assert p_value == 1 / (1 + two_sample.PERMUTATIONS)


def _draw_probabilities(rng, labels):
    """Of a model that is right for about 85 % of the images, and calibrated."""
    return special.softmax(rng.normal(size=(len(labels), 5)) + 3 * np.eye(5)[labels], 1)


def test_a_missing_class_is_found_where_predicted_shares_hardly_show_it(monkeypatch):
    monkeypatch.setattr(two_sample, "PERMUTATIONS", 999)
    rng = np.random.default_rng(0)
    by_ratio, by_shares = 0, 0
    for _ in range(20):
        reference = _draw_probabilities(rng, rng.integers(0, 5, 150))
        new = _draw_probabilities(rng, rng.choice([0, 1, 3, 4], 50))
        by_ratio += two_sample.missing_class_p_value(reference, new, rng) < 0.0017
        counts = [
            np.bincount(sample.argmax(axis=1), minlength=5)
            for sample in (reference, new)
        ]
        by_shares += two_sample.class_share_p_value(*counts, rng) < 0.0017
        assert two_sample.find_missing_class(reference, new) == 2
    assert by_ratio >= 10 > 3 >= by_shares


def test_the_ratio_of_a_missing_class_is_that_of_its_definition():
    reference, new = np.array([[0.5, 0.5], [0.9, 0.1]]), np.array([[0.2, 0.8], [0, 1]])
    ratios = two_sample._missing_class_ratios(reference, new)
    # The mean probabilities are 0.4 and 0.6; 1 counts as 0.99.
    expected = np.log([[0.5, 0.5], [0.1, 0.9], [0.8, 0.2], [1, 0.01]])
    np.testing.assert_allclose(ratios, expected - np.log([0.6, 0.4]))
    assert two_sample.find_missing_class(reference, new) == 0


def test_values_are_compared_by_their_ranks():
    low, high = np.arange(20.0), np.arange(20.0) + 15
    assert two_sample.rank_p_value(low, high) < 1e-4
    assert two_sample.rank_p_value(low, low) == pytest.approx(1)
    assert two_sample.rank_p_value(np.ones(5), np.ones(8)) == 1


def test_p_values_are_adjusted_for_their_number():
    adjusted = two_sample.adjust_holm({"a": 0.04, "b": 0.01, "c": 0.03, "d": 0.9})
    assert list(adjusted) == ["a", "b", "c", "d"]
    assert adjusted == pytest.approx({"a": 0.09, "b": 0.04, "c": 0.09, "d": 0.9})
    assert two_sample.adjust_holm({"a": 0.8, "b": 0.7}) == {"a": 1.0, "b": 1.0}
