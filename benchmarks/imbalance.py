"""What class weights gain and cost where the classes have unequal numbers of images.

`python benchmarks/imbalance.py PHOTOS WEIGHTS`; see recipes.py for both. In each draw
the classes get 160, 80, 40, 20 and 10 photographs in a random order; 80 % of them
train and 10 % validate. 40 photographs of each class that were not drawn are the test,
so that accuracy on them is balanced accuracy. The figures:

- balanced accuracy of the head and after finetune;
- accuracy as in training, of the exported model: the mean of the recalls, weighted by
  the shares of the drawn classes. It is the accuracy on images that are as unequal as
  the training images.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

import numpy as np
import recipes
import tables

COUNTS = (160, 80, 40, 20, 10)
CLASS_WEIGHTS = ("none", "balanced")
FIGURES = ("head", "finetune", "as in training")
TEST_COUNT = 40


def draw(names_by_class, seed):
    """Returns class -> number of drawn photographs, and name -> split."""
    order = np.random.default_rng(seed).permutation(len(COUNTS))
    count_of = {name: COUNTS[k] for name, k in zip(names_by_class, order, strict=True)}
    split_of = {}
    for name, photographs in names_by_class.items():
        drawn = recipes.draw({name: photographs}, count_of[name], seed)
        tested = [each for each, split in drawn.items() if split == "test"]
        for each in tested[TEST_COUNT:]:
            del drawn[each]
        split_of |= drawn
    return count_of, split_of


def run_ours(csv_path, weights, class_weights, count_of):
    """Returns the figures of the model that the command exports."""
    with tempfile.TemporaryDirectory() as out:
        run_dir = pathlib.Path(out, "run")
        subprocess.run(
            [
                *(sys.executable, str(recipes.TRAIN_ONLY), *recipes.BACKBONE),
                *(f"--weights={weights}", f"--source=csv:{csv_path}"),
                *(f"--model_dir={run_dir}", f"--class_weights={class_weights}"),
                f"--cache_dir={csv_path.parent / 'cache'}",
            ],
            cwd=tables.ROOT,
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        summary = json.loads((run_dir / "summary.json").read_text())
    per_class = summary["test"]["per_class"]
    recalls = [per_class[name]["recall"] for name in count_of]
    return [
        summary["head"]["test_balanced_accuracy"],
        summary["finetune"]["test_balanced_accuracy"],
        float(np.average(recalls, weights=list(count_of.values()))),
    ]


def main(photographs, weights, num_seeds):
    header = tables.describe_machine("scikit-learn")
    folders = sorted(path for path in photographs.iterdir() if path.is_dir())
    names_by_class = {
        folder.name: sorted(f"{folder.name}/{p.name}" for p in folder.glob("*.jpg"))
        for folder in folders
    }
    samples = {}
    for seed in range(num_seeds):
        count_of, split_of = draw(names_by_class, seed)
        with tempfile.TemporaryDirectory() as folder:
            csv_path = pathlib.Path(folder, "split.csv")
            recipes.write_csv(csv_path, photographs, split_of)
            for class_weights in CLASS_WEIGHTS:
                figures = run_ours(csv_path, weights, class_weights, count_of)
                samples.setdefault(class_weights, []).append(figures)
        print(seed, {name: v[-1] for name, v in samples.items()}, flush=True)
    tables.save(
        "imbalance",
        about=(
            f"MobileNet 0.25 at {recipes.SIDE} px; {', '.join(map(str, COUNTS))} "
            "photographs a class; balanced accuracy of head and finetune, and accuracy "
            f"as in training, mean over {num_seeds} draws; differences are paired by "
            "draw, with the 95 % interval of "
            "Student's t."
        ),
        header=header,
        columns=["class weights", *FIGURES, *(f"{f}, gain" for f in FIGURES)],
        rows=[make_row(name, samples) for name in samples],
        samples=samples,
    )


def make_row(name, samples):
    from scipy import stats

    values = np.array(samples[name])
    row = [name, *(f"{value:.3f}" for value in values.mean(axis=0))]
    if name == "none":
        return [*row, *[""] * len(FIGURES)]
    for pairs in (values - np.array(samples["none"])).T.tolist():
        half = stats.t.ppf(0.975, len(pairs) - 1) * stats.sem(pairs)
        mean = statistics.mean(pairs)
        row.append(f"{mean:+.3f} [{mean - half:+.3f}, {mean + half:+.3f}]")
    return row


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("photographs", type=lambda text: pathlib.Path(text).resolve())
    parser.add_argument("weights", type=lambda text: str(pathlib.Path(text).resolve()))
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    main(given.photographs, given.weights, given.seeds)
