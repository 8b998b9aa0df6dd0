"""How many flipped labels the label check finds, for several ways to rank.

`python benchmarks/label_issues.py PHOTOS MobileNet=WEIGHTS ResNet50=WEIGHTS`; PHOTOS
holds one folder a class, WEIGHTS are files without the classification layer, of
MobileNet with alpha 0.25. For each seed, 5 % of the labels are changed to another class
at random; duplicates, groups and splits are those of the preparation, and the
probabilities those of `trainer.check_labels`. Precision: flipped ones among the first
as many as were flipped. Recall: flipped ones within the first 10 %. A label that was
wrong before counts as a false find.

Contestants: the scores of cleanlab, and its filters, whose finds come first. The score
self-confidence is the probability of the label, so it is also the plain alternative.
"""

import argparse
import functools
import pathlib
import statistics

import numpy as np
import tables

SIDE = 224
SHARE = 0.05
KEPT = "self-confidence"
SCORES = {
    KEPT: "self_confidence",
    "normalized margin": "normalized_margin",
    "confidence-weighted entropy": "confidence_weighted_entropy",
}
FILTERS = ("prune_by_noise_rate", "both", "confident_learning")


def examine(photographs):
    """Returns the usable images, their groups and whether they are in test."""
    from pipeline.audit.decide import decide
    from pipeline.inspection.inspect_images import hash_pixels, inspect_images
    from pipeline.inspection.reencoding import StoredForm
    from pipeline.sources.listing import list_images
    from pipeline.splits.assign import SplitPlan, assign_splits

    listing = list_images(str(photographs), seed=1, work_dir=photographs)
    reports = inspect_images(listing.images, min_side_px=16)
    audit = decide(
        reports, hash_pixels=functools.partial(hash_pixels, form=StoredForm())
    )
    (split_of,) = assign_splits(audit, SplitPlan()).splits_of_folds
    images = [report.image for report in audit.usable]
    groups = [audit.group_of[image.name] for image in images]
    is_test = np.array([split_of[image.name] == "test" for image in images])
    return images, groups, is_test


def compute_features(photographs, names, backbone_name, weights):
    """Returns the pooled features of plain Keras, float32 [N, D]."""
    import keras
    import tensorflow as tf

    arguments = {"alpha": 0.25} if backbone_name == "MobileNet" else {}
    backbone = getattr(keras.applications, backbone_name)(
        include_top=False,
        weights=weights,
        pooling="avg",
        input_shape=(SIDE, SIDE, 3),
        **arguments,
    )
    module = getattr(keras.applications, backbone_name.lower())

    def decode(name):
        path = tf.strings.join([str(photographs), "/", name])
        image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
        return module.preprocess_input(tf.image.resize(image, (SIDE, SIDE)))

    images = tf.data.Dataset.from_tensor_slices(list(names)).map(decode).batch(32)
    return backbone.predict(images, verbose=0)


def flip(labels, num_classes, seed):
    """Returns the labels with 5 % of them wrong, and the positions of these."""
    rng = np.random.default_rng(seed)
    flipped = rng.choice(len(labels), round(SHARE * len(labels)), replace=False)
    changed = labels.copy()
    changed[flipped] += rng.integers(1, num_classes, len(flipped))
    return changed % num_classes, set(flipped.tolist())


def rank_all(labels, probabilities):
    """Returns contestant -> positions, the most suspicious first."""
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    orders = {
        name: np.argsort(
            get_label_quality_scores(labels, probabilities, method=method),
            kind="stable",
        ).tolist()
        for name, method in SCORES.items()
    }
    for method in FILTERS:
        first = find_label_issues(
            labels,
            probabilities,
            filter_by=method,
            return_indices_ranked_by="self_confidence",
            n_jobs=1,
        ).tolist()
        others = [position for position in orders[KEPT] if position not in set(first)]
        orders[f"filter {method}"] = first + others
    return orders


def judge(order, flipped):
    """Returns precision and recall."""
    found = [position in flipped for position in order]
    return (
        sum(found[: len(flipped)]) / len(flipped),
        sum(found[: round(0.1 * len(order))]) / len(flipped),
    )


def interval(values):
    """The mean and its 95 % interval of Student's t."""
    from scipy import stats

    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    mean = statistics.mean(values)
    return f"{mean:.3f} [{mean - half:.3f}, {mean + half:.3f}]"


def measure(features, labels, groups, is_test, seeds):
    """Returns contestant -> figures of each seed, and the estimated numbers."""
    from trainer.label_check.out_of_fold import Photographs, predict_out_of_fold
    from trainer.label_check.ranking import rank

    num_classes = int(labels.max()) + 1

    def predict(given, seed):
        photographs = Photographs(features, given, groups, is_test)
        return predict_out_of_fold(photographs, num_classes=num_classes, seed=seed)

    figures, estimates = {}, []
    for seed in seeds:
        changed, flipped = flip(labels, num_classes, seed)
        probabilities = predict(changed, seed)
        estimates.append(rank(changed, probabilities).estimated_errors)
        for name, order in rank_all(changed, probabilities).items():
            figures.setdefault(name, []).append(judge(order, flipped))
        print(seed, {name: values[-1] for name, values in figures.items()}, flush=True)
    unchanged = rank(labels, predict(labels, 1)).estimated_errors
    return figures, {"flipped": estimates, "unchanged": unchanged}


def make_row(backbone, name, figures):
    precisions, recalls = zip(*figures[name], strict=True)
    kept = [precision for precision, _ in figures[KEPT]]
    pairs = [a - b for a, b in zip(precisions, kept, strict=True)]
    difference = "" if name == KEPT else interval(pairs)
    return [backbone, name, interval(precisions), interval(recalls), difference]


def save(header, rows, samples, *, num_seeds, count, notes):
    tables.save(
        "label_issues",
        about=(
            f"{round(SHARE * count)} of {count} labels flipped; precision "
            "among the first as many, recall within the first 10 %, mean over "
            f"{num_seeds} seeds with the 95 % interval of Student's t; differences are "
            "paired by seed. Estimated number of wrong labels before and after the "
            f"flips: {'; '.join(notes)}."
        ),
        header=header,
        columns=["features", "ranking", "precision", "recall", f"less {KEPT}"],
        rows=rows,
        samples=samples,
    )


def main(photographs, weights_of, num_seeds):
    header = tables.describe_machine("scikit-learn", "cleanlab")
    images, groups, is_test = examine(photographs)
    classes = sorted({image.label for image in images})
    labels = np.array([classes.index(image.label) for image in images])
    rows, samples, notes = [], {}, []
    for backbone, weights in weights_of.items():
        names = [image.name for image in images]
        features = compute_features(photographs, names, backbone, weights)
        figures, estimates = measure(
            features, labels, groups, is_test, range(num_seeds)
        )
        rows += [make_row(backbone, name, figures) for name in figures]
        samples[backbone] = {"figures": figures, "estimates": estimates}
        mean = statistics.mean(estimates["flipped"])
        notes.append(f"{backbone}: {estimates['unchanged']} before, {mean:.0f} after")
        save(header, rows, samples, num_seeds=num_seeds, count=len(labels), notes=notes)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("photographs", type=lambda text: pathlib.Path(text).resolve())
    parser.add_argument("weights", nargs="+", help="BACKBONE=FILE")
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    files = dict(text.split("=", 1) for text in given.weights)
    main(given.photographs, files, given.seeds)
