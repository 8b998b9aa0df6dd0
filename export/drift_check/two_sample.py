"""Tests whether two samples come from one distribution.

The p-value of each test is right for any number of images. A test either compares the
samples with random divisions of the same images (Phipson and Smyth, 2010), or SciPy
knows its distribution.
"""

from collections.abc import Mapping

import numpy as np

from trainer.comparison.paired_tests import correct_p_values

PERMUTATIONS = 4_999
# Permutation tests use at most this many rows of a sample, because the memory of the
# kernel test grows with the square of their number.
MAX_ROWS = 1_000
# No probability counts as more than 1 less this: labels are wrong too.
_LEAST_DOUBT = 0.01


def kernel_p_value(
    reference: np.ndarray, new: np.ndarray, rng: np.random.Generator
) -> float:
    """Tests rows of numbers by the maximum mean discrepancy (Gretton et al., 2012).

    The kernel is Gaussian: exp(-squared distance / median squared distance of all
    pairs).

    Args:
      reference, new: float [m, d], float [n, d].
      rng: draws the permutations, and MAX_ROWS rows of a larger sample.

    Returns:
      The p-value of a permutation test.
    """
    reference, new = (_thin_out(sample, rng) for sample in (reference, new))
    kernel = _compute_kernel(np.concatenate([reference, new]))
    is_new = _permute(len(reference), len(new), rng)
    statistics = _mean_discrepancies(kernel, is_new)
    return _p_value(statistics[0], statistics[1:])


def standardise(
    reference: np.ndarray, new: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Divides each column by its standard deviation over both samples together.

    The deviation does not depend on which image is in which sample, so a permutation
    test of the result is exact. A column without any variation stays as it is.

    reference, new: float [m, d], float [n, d].
    """
    scale = np.concatenate([reference, new]).std(axis=0)
    scale[scale == 0] = 1
    return reference / scale, new / scale


def _thin_out(sample: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if len(sample) <= MAX_ROWS:
        return sample
    return sample[rng.choice(len(sample), MAX_ROWS, replace=False)]


def _permute(num_old: int, num_new: int, rng: np.random.Generator) -> np.ndarray:
    """Divides rows into two samples at random; the first division is the real one.

    Returns:
      float32 [1 + PERMUTATIONS, num_old + num_new], 1 for the new sample.
    """
    count = num_old + num_new
    is_new = np.zeros((PERMUTATIONS + 1, count), np.float32)
    is_new[0, num_old:] = 1
    # The rows with the smallest numbers; a tenth of the time of rng.permuted.
    order = rng.random((PERMUTATIONS, count)).argpartition(num_new - 1, axis=1)
    np.put_along_axis(is_new[1:], order[:, :num_new], 1, axis=1)
    return is_new


def _compute_kernel(points: np.ndarray) -> np.ndarray:
    from scipy.spatial import distance

    squares = distance.pdist(points.astype(np.float64), "sqeuclidean")
    # The median is 0 if most points are equal.
    width = float(np.median(squares)) or float(squares.mean()) or 1.0
    return distance.squareform(np.exp(-squares / width)).astype(np.float32) + np.eye(
        len(points), dtype=np.float32
    )


def _mean_discrepancies(kernel: np.ndarray, is_new: np.ndarray) -> np.ndarray:
    """Computes the squared discrepancy of each division of the rows into two samples.

    kernel: float32 [N, N]; is_new: float32 [P, N], 1 for the new sample.

    Returns:
      float64 [P].
    """
    new = is_new[0].sum(dtype=np.float64)
    old = len(kernel) - new
    row_sums = kernel.sum(axis=1, dtype=np.float64)
    new_new = np.einsum("pi,pi->p", is_new @ kernel, is_new, dtype=np.float64)
    new_any = is_new @ row_sums
    new_old = new_any - new_new
    old_old = row_sums.sum() - new_any - new_old
    return new_new / new**2 + old_old / old**2 - 2 * new_old / (new * old)


def class_share_p_value(
    reference: np.ndarray, new: np.ndarray, rng: np.random.Generator
) -> float:
    """Tests the numbers of images of each class by chi-squared.

    The statistic is compared with that of random tables of the same sums, so the
    p-value is right for small numbers too.

    reference, new: int [K], numbers of images by class.

    Returns:
      The p-value; 1 if all images are of one class.
    """
    from scipy import stats

    table = np.stack([reference, new])[:, reference + new > 0]
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    if len(columns) < 2:
        return 1.0
    expected = np.outer(rows, columns) / rows.sum()
    tables = stats.random_table(rows, columns).rvs(PERMUTATIONS, random_state=rng)
    observed, drawn = (
        ((counts - expected) ** 2 / expected).sum(axis=(-2, -1))
        for counts in (table, tables)
    )
    return _p_value(float(observed), drawn)


def missing_class_p_value(
    reference: np.ndarray, new: np.ndarray, rng: np.random.Generator
) -> float:
    """Tests whether one of the classes is missing among new images.

    A model that mistakes others for the class still predicts it now and then, but
    without being sure. So the statistic is the likelihood ratio of the probabilities:
    that the class is missing, against shares that have not changed, for the class where
    it is largest.

    Args:
      reference, new: float [m, K], float [n, K], probabilities.
      rng: draws the permutations, and MAX_ROWS rows of a larger sample.

    Returns:
      The p-value of a permutation test.
    """
    reference, new = (_thin_out(sample, rng) for sample in (reference, new))
    ratios = _missing_class_ratios(reference, new)
    is_new = _permute(len(reference), len(new), rng)
    statistics = (is_new @ ratios.astype(np.float32)).max(axis=1)
    return _p_value(float(statistics[0]), statistics[1:])


def find_missing_class(reference: np.ndarray, new: np.ndarray) -> int:
    """Returns the class that is likeliest missing among new images; see above."""
    ratios = _missing_class_ratios(reference, new)
    return int(ratios[len(reference) :].sum(axis=0).argmax())


def _missing_class_ratios(reference: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Returns the log likelihood ratio of each image and class, float64 [m + n, K]."""
    pooled = np.concatenate([reference, new]).astype(np.float64)
    doubt = np.maximum(1 - pooled, _LEAST_DOUBT)
    return np.log(doubt / np.maximum(1 - pooled.mean(axis=0), _LEAST_DOUBT))


def rank_p_value(reference: np.ndarray, new: np.ndarray) -> float:
    """Tests numbers by their ranks (Mann and Whitney, 1947); returns the p-value.

    reference, new: float [m], float [n].
    """
    from scipy import stats

    if np.ptp(np.concatenate([reference, new])) == 0:
        return 1.0  # SciPy would divide by 0.
    return float(stats.mannwhitneyu(reference, new, method="asymptotic").pvalue)


def _p_value(observed: float, drawn: np.ndarray) -> float:
    # Rounding can make equal statistics differ a little.
    as_large = drawn >= observed - 1e-6 * abs(observed)
    return float((1 + as_large.sum()) / (1 + len(drawn)))


def adjust_holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjusts the p-values of several tests together (Holm, 1979).

    If nothing has changed, the probability that the smallest one is below a limit is at
    most that limit, also if the tests depend on one another.
    """
    return dict(zip(p_values, correct_p_values(list(p_values.values())), strict=True))
