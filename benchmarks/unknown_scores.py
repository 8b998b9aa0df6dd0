"""Scores that are higher for images of unknown classes; see unknown.py.

Each is fitted to the pooled features [N, D], logits [N, K] and labels [N] of training
images, and is a function of the features and logits of other images.
"""

import numpy as np


def log_sum_exp(logits):
    from scipy import special

    return special.logsumexp(logits, axis=1)


def fit_max_softmax(features, logits, labels):
    """Hendrycks and Gimpel, 2017."""
    return lambda z, x: -np.exp(x.max(axis=1) - log_sum_exp(x))


def fit_energy(features, logits, labels):
    """Liu et al., 2020."""
    return lambda z, x: -log_sum_exp(x)


def fit_covariance(centred):
    from sklearn.covariance import LedoitWolf

    return LedoitWolf(assume_centered=True).fit(centred)


def class_means(features, labels):
    return np.stack([features[labels == k].mean(axis=0) for k in np.unique(labels)])


def fit_mahalanobis(features, logits, labels):
    """Lee et al., 2018, on the pooled features; the covariance is shrunk."""
    means = class_means(features, labels)
    covariance = fit_covariance(features - means[labels])
    return lambda z, x: np.min([covariance.mahalanobis(z - m) for m in means], axis=0)


def fit_relative_mahalanobis(features, logits, labels):
    """Ren et al., 2021."""
    by_class = fit_mahalanobis(features, logits, labels)
    mean = features.mean(axis=0)
    background = fit_covariance(features - mean)
    return lambda z, x: by_class(z, x) - background.mahalanobis(z - mean)


def normalise(features):
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def fit_neighbours(features, logits, labels, k):
    """Sun et al., 2022: the distance to the k-th nearest training photograph."""
    index = normalise(features)
    return lambda z, x: np.sort(1 - normalise(z) @ index.T, axis=1)[:, k - 1]


def fit_vim(features, logits, labels):
    """Wang et al., 2022; the principal space explains 90 % of the variance."""
    mean = features.mean(axis=0)
    _, values, axes = np.linalg.svd(features - mean, full_matrices=False)
    share = np.cumsum(values**2) / np.sum(values**2)
    principal = axes[: int(np.searchsorted(share, 0.9)) + 1]

    def residual(z):
        centred = z - mean
        return np.linalg.norm(centred - centred @ principal.T @ principal, axis=1)

    alpha = logits.max(axis=1).mean() / residual(features).mean()
    return lambda z, x: alpha * residual(z) - log_sum_exp(x)


def fit_vim_of_class(features, logits, labels):
    """ViM less its mean over training images that are predicted as the class.

    Of an image, the mean over the classes, weighted by their probabilities.
    """
    from scipy import special

    score = fit_vim(features, logits, labels)
    scores, predicted = score(features, logits), logits.argmax(axis=1)
    means = np.full(logits.shape[1], scores.mean())
    for k in np.unique(predicted):
        means[k] = scores[predicted == k].mean()
    return lambda z, x: score(z, x) - special.softmax(x, axis=1) @ means


SCORES = {
    "maximum softmax": fit_max_softmax,
    "energy": fit_energy,
    "Mahalanobis": fit_mahalanobis,
    "relative Mahalanobis": fit_relative_mahalanobis,
    **{
        f"{k} nearest neighbours": lambda *given, k=k: fit_neighbours(*given, k=k)
        for k in (1, 5, 10, 20)
    },
    "ViM": fit_vim,
    "ViM, less the mean of the class": fit_vim_of_class,
}
