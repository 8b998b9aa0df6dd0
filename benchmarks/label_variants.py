"""Whether the label check would find more if it were made in another way.

`python benchmarks/label_variants.py PHOTOS WEIGHTS`; see label_issues.py, whose
photographs, flips and figures these are. WEIGHTS is a file of MobileNet's weights
(alpha 0.25). Every variant ranks by the probability of the label, from low to high,
but for two of the last three rows. The last three are for classes of unequal size: one
keeps its photographs, and each other one has 0.6 times as many as the one before.
"""

import argparse
import dataclasses
import pathlib

import label_issues
import numpy as np
import tables

NUM_NEIGHBOURS = 20
UNEQUAL_FACTOR = 0.6
KEPT, KEPT_UNEQUAL = "five folds", "unequal classes: self-confidence"


def predict(photographs, num_classes, seed, num_folds=5):
    """Returns the probabilities of trainer.check_labels, with so many folds."""
    from trainer.label_check import out_of_fold

    usual, out_of_fold.NUM_FOLDS = out_of_fold.NUM_FOLDS, num_folds
    try:
        return out_of_fold.predict_out_of_fold(
            photographs, num_classes=num_classes, seed=seed
        )
    finally:
        out_of_fold.NUM_FOLDS = usual


def predict_without_finds(photographs, num_classes, seed, first):
    """Predicts again with heads that are not fitted to the finds of the first time."""
    from trainer.label_check.ranking import rank

    ranking = rank(photographs.labels, first)
    held_out = photographs.is_test.copy()
    # A head that is fitted without them predicts them, as it predicts test.
    finds = ranking.issues[: ranking.estimated_errors]
    held_out[[find.position for find in finds]] = True
    changed = dataclasses.replace(photographs, is_test=held_out)
    return predict(changed, num_classes, seed)


def predict_by_neighbours(photographs, num_classes, seed):
    """Returns the shares of the labels among the nearest photographs of other folds."""
    from trainer.label_check import out_of_fold

    folds = out_of_fold.assign_folds(photographs, seed=seed)
    lengths = np.linalg.norm(photographs.features, axis=1, keepdims=True)
    unit = photographs.features / lengths
    similarity = unit @ unit.T
    # Fold -1 is test: nobody's neighbour.
    similarity[:, folds < 0] = -np.inf
    similarity[folds[:, np.newaxis] == folds] = -np.inf
    nearest = np.argsort(-similarity, axis=1)[:, :NUM_NEIGHBOURS]
    return np.eye(num_classes)[photographs.labels[nearest]].mean(axis=1)


def predict_all(photographs, num_classes, seed):
    """Returns variant -> probabilities."""
    first = predict(photographs, num_classes, seed)
    neighbours = predict_by_neighbours(photographs, num_classes, seed)
    others = [predict(photographs, num_classes, seed + k) for k in (1000, 2000)]
    return {
        KEPT: first,
        "ten folds": predict(photographs, num_classes, seed, num_folds=10),
        "mean of three divisions into folds": np.mean([first, *others], axis=0),
        "a second time without the finds of the first": predict_without_finds(
            photographs, num_classes, seed, first
        ),
        f"{NUM_NEIGHBOURS} nearest neighbours instead": neighbours,
        f"mean with {NUM_NEIGHBOURS} nearest neighbours": (first + neighbours) / 2,
    }


def rank_unequal(labels, probabilities):
    """Returns contestant -> positions, for classes of unequal size."""
    from cleanlab.rank import get_label_quality_scores

    options = {
        KEPT_UNEQUAL: {"method": "self_confidence"},
        "unequal classes: normalized margin": {"method": "normalized_margin"},
        "unequal classes: adjusted self-confidence": {
            "method": "self_confidence",
            "adjust_pred_probs": True,
        },
    }
    return {
        name: np.argsort(
            get_label_quality_scores(labels, probabilities, **each), kind="stable"
        )
        for name, each in options.items()
    }


def thin_out(labels, seed):
    """Returns positions of photographs of classes of unequal size, sorted."""
    rng = np.random.default_rng(seed)
    classes, counts = np.unique(labels, return_counts=True)
    kept = []
    for rank, k in enumerate(rng.permutation(classes)):
        size = round(counts.max() * UNEQUAL_FACTOR**rank)
        positions = rng.permutation(np.flatnonzero(labels == k))
        kept.append(positions[: min(size, len(positions))])
    return np.sort(np.concatenate(kept))


def measure(features, labels, groups, is_test, seed):
    """Returns variant -> (precision, recall) of one seed."""
    from trainer.label_check.out_of_fold import Photographs

    num_classes = int(labels.max()) + 1
    changed, flipped = label_issues.flip(labels, num_classes, seed)
    photographs = Photographs(features, changed, groups, is_test)
    rows = np.arange(len(labels))
    figures = {
        name: label_issues.judge(
            np.argsort(probabilities[rows, changed], kind="stable").tolist(), flipped
        )
        for name, probabilities in predict_all(photographs, num_classes, seed).items()
    }
    chosen = thin_out(labels, seed)
    changed, flipped = label_issues.flip(labels[chosen], num_classes, seed)
    photographs = Photographs(
        features[chosen],
        changed,
        [groups[position] for position in chosen],
        is_test[chosen],
    )
    probabilities = predict(photographs, num_classes, seed)
    for name, order in rank_unequal(changed, probabilities).items():
        figures[name] = label_issues.judge(order.tolist(), flipped)
    return figures


def make_row(name, figures):
    precisions, recalls = zip(*figures[name], strict=True)
    kept = KEPT_UNEQUAL if name.startswith("unequal") else KEPT
    pairs = [a - b for a, (b, _) in zip(precisions, figures[kept], strict=True)]
    difference = "" if name == kept else label_issues.interval(pairs)
    return [
        name,
        label_issues.interval(precisions),
        label_issues.interval(recalls),
        difference,
    ]


def main(photographs, weights, num_seeds):
    header = tables.describe_machine("scikit-learn", "cleanlab")
    images, groups, is_test = label_issues.examine(photographs)
    classes = sorted({image.label for image in images})
    labels = np.array([classes.index(image.label) for image in images])
    features = label_issues.compute_features(
        photographs, [image.name for image in images], "MobileNet", weights
    )
    figures = {}
    for seed in range(num_seeds):
        for name, pair in measure(features, labels, groups, is_test, seed).items():
            figures.setdefault(name, []).append(pair)
        print(seed, {name: pairs[-1] for name, pairs in figures.items()}, flush=True)
    tables.save(
        "label_variants",
        about=(
            f"MobileNet 0.25, {len(labels)} photographs, 5 % of the labels flipped; "
            "precision among the first as many, recall within the first 10 %, mean "
            f"over {num_seeds} seeds with the 95 % interval of Student's t. The last "
            "column: difference of the precision, paired by seed, from the first row "
            "of the same photographs."
        ),
        header=header,
        columns=["variant", "precision", "recall", "difference"],
        rows=[make_row(name, figures) for name in figures],
        samples=figures,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("photographs", type=lambda text: pathlib.Path(text).resolve())
    parser.add_argument("weights", type=lambda text: str(pathlib.Path(text).resolve()))
    parser.add_argument("--seeds", type=int, default=10)
    given = parser.parse_args()
    main(given.photographs, given.weights, given.seeds)
