"""What class weights gain and cost for a solved head, by how unequal the classes are.

`python benchmarks/imbalance_head.py PHOTOS WEIGHTS`; see recipes.py for both. The head
is solved on features of plain Keras, without augmented views, so that many draws take
seconds; imbalance.py measures the whole command. 80 % of the drawn photographs train,
the folds of train choose the penalty, and all photographs that were not drawn are the
test. imbalance.py explains the two figures.
"""

import argparse
import pathlib
import sys

import numpy as np
import recipes
import tables
from scipy import stats

COUNTS = (
    (60, 50, 40, 40, 30),
    (80, 57, 40, 28, 20),
    (80, 40, 40, 40, 20),
    (100, 100, 100, 100, 10),
    (160, 80, 40, 20, 10),
    (150, 10, 10, 10, 10),
)
NUM_FOLDS = 5


def draw(labels, counts, seed):
    """Returns the images of each class, and the positions that train and that test."""
    rng = np.random.default_rng(seed)
    counts = np.array(counts)[rng.permutation(len(counts))]
    train, test = [], []
    for k, count in enumerate(counts):
        order = rng.permutation(np.flatnonzero(labels == k))
        train.extend(order[: int(0.8 * count)])
        test.extend(order[count:])
    return counts, rng.permutation(train), np.array(test)


def measure(features, labels, counts, seed):
    """Returns float [2, 2]: without and with weights; both figures."""
    from trainer.config.class_balance import make_balance
    from trainer.head_search.logistic_head import solve_head
    from trainer.head_search.pooled_features import PooledSplit

    counts, train, test = draw(labels, counts, seed)
    splits = [PooledSplit(features[part], [], labels[part]) for part in (train, test)]
    figures = []
    for class_weights in ("none", "balanced"):
        head = solve_head(
            "head",
            *splits,
            folds=np.arange(len(train)) % NUM_FOLDS,
            num_classes=len(counts),
            class_weights=make_balance(class_weights, counts.tolist()).weights,
        )
        predicted = (features[test] @ head.kernel + head.bias).argmax(axis=1)
        recalls = [
            (predicted[labels[test] == k] == k).mean() for k in range(len(counts))
        ]
        figures.append([np.mean(recalls), np.average(recalls, weights=counts)])
    return np.array(figures)


def main(photographs, weights, num_seeds):
    sys.path.insert(0, str(tables.ROOT))
    header = tables.describe_machine("scikit-learn")
    folders = sorted(path for path in photographs.iterdir() if path.is_dir())
    names = [f"{d.name}/{p.name}" for d in folders for p in sorted(d.glob("*.jpg"))]
    classes = [folder.name for folder in folders]
    labels = np.array([classes.index(name.split("/")[0]) for name in names])
    features = recipes.compute_features(str(photographs), names, weights)
    rows, samples = [], {}
    for counts in COUNTS:
        found = np.stack(
            [measure(features, labels, counts, seed) for seed in range(num_seeds)]
        )
        gains = found[:, 1] - found[:, 0]
        halves = stats.t.ppf(0.975, num_seeds - 1) * stats.sem(gains)
        row = [", ".join(map(str, counts))]
        for k in range(2):
            mean, half = gains[:, k].mean(), halves[k]
            row.append(f"{found[:, 0, k].mean():.3f}")
            row.append(f"{mean:+.3f} [{mean - half:+.3f}, {mean + half:+.3f}]")
        rows.append(row)
        samples[row[0]] = found.tolist()
    tables.save(
        "imbalance_head",
        about=(
            f"The solved head on MobileNet 0.25 at {recipes.SIDE} px; mean over "
            f"{num_seeds} draws; gains are paired by draw, with the 95 % interval of "
            "Student's t."
        ),
        header=header,
        columns=[
            *("photographs a class", "balanced accuracy", "gain of weights"),
            *("accuracy as in training", "gain of weights"),
        ],
        rows=rows,
        samples=samples,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("photographs", type=lambda text: pathlib.Path(text).resolve())
    parser.add_argument("weights", type=lambda text: str(pathlib.Path(text).resolve()))
    parser.add_argument("--seeds", type=int, default=12)
    given = parser.parse_args()
    main(given.photographs, given.weights, given.seeds)
